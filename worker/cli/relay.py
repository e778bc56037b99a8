"""`sre-domain relay`."""

import signal
from threading import Event

from worker.logs import log_to_stderr
from worker.relay.relay import run
from worker.settings import Settings


def relay() -> None:
    """Move facts and rejections from PostgreSQL's WAL to Kafka, exactly once. Stops on SIGTERM and Ctrl-C."""
    log_to_stderr()
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    run(Settings.from_environment(), stop)
