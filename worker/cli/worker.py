"""`sre-domain worker`."""

from worker.logs import log_to_stderr
from worker.service import run_worker
from worker.settings import Settings


def worker() -> None:
    """Take intents from Kafka, decide them, and write state, inbox and outbox to PostgreSQL. Stops on SIGTERM and Ctrl-C."""
    log_to_stderr()
    run_worker(Settings.from_environment())
