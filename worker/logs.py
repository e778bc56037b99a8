"""Log lines for the services: one format, on stderr, and none of the chatter of the clients below."""

import logging
import sys

_QUIET = ("faust", "mode", "aiokafka", "librdkafka", "psycopg")


def log_to_stderr() -> None:
    """What the worker and the relay say at INFO, what the libraries below them say at WARNING."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def only_errors_of_ours() -> None:
    """For commands that people type: what went wrong is one line of the command's own, not the clients' account of every attempt."""
    logging.getLogger().addHandler(logging.NullHandler())
