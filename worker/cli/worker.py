"""`sre-domain worker`."""

from worker.logs import log_to_stderr
from worker.settings import Settings


def worker() -> None:
    """Take intents from Kafka, decide them, and write state, inbox and outbox to PostgreSQL. Stops on SIGTERM and Ctrl-C."""
    from worker.service import run_worker  # noqa: PLC0415 - Faust takes half a second to import, and no other command needs it

    settings = Settings.from_environment()
    log_to_stderr(settings)
    run_worker(settings)
