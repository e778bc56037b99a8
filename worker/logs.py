"""Log lines for the services: one format, on stderr, and little of the chatter of the clients below."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Final

from worker.printable import printable

if TYPE_CHECKING:
    from types import TracebackType

    _ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"
_CLIENTS: Final = ("faust", "mode", "aiokafka", "librdkafka", "psycopg")
_LEVELS: Final = dict.fromkeys(_CLIENTS, logging.WARNING) | {"psycopg": logging.ERROR}  # it warns of what it also raises
_SECONDS_BETWEEN_REPEATS: Final = 60.0


class _Repeats(logging.Filter):
    """Lets a client's complaint through once a minute: during an outage it is made for every attempt of every connection."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in _CLIENTS:
            return True
        complaint, now = (record.name, str(record.msg)[:40]), time.monotonic()
        if now - self._last.get(complaint, -_SECONDS_BETWEEN_REPEATS) < _SECONDS_BETWEEN_REPEATS:
            return False
        self._last[complaint] = now
        return True


class OneLine(logging.Formatter):
    """A record is one line, whatever text is in it. A traceback's lines follow indented, so that none can pass for a record."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the overridden name
        return printable(super().formatMessage(record))

    def formatException(self, ei: _ExceptionInfo) -> str:  # noqa: N802 - the overridden name
        return "\n".join(f"    {printable(line)}" for line in super().formatException(ei).splitlines())


def log_to_stderr() -> None:
    """What the worker and the relay say at INFO, what the libraries below them complain of."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(_FORMAT))
    handler.addFilter(_Repeats())
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    for name, level in _LEVELS.items():
        logging.getLogger(name).setLevel(level)


def only_errors_of_ours() -> None:
    """For commands that people type: what went wrong is one line of the command's own, not the clients' account of every attempt."""
    logging.getLogger().addHandler(logging.NullHandler())
