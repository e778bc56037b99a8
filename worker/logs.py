"""Log lines for the services, as text or as JSON, on stderr, and little of the chatter of the clients below."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from worker.printable import printable, printable_json
from worker.settings import LogSettings

if TYPE_CHECKING:
    from types import TracebackType

    _ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"
_CLIENTS: Final = ("faust", "mode", "aiokafka", "httpx", "httpx2", "librdkafka", "opentelemetry", "psycopg")
_IDS: Final = ("intent_id", "tenant_id", "trace_id")  # what a line can say of the intent, or of the intents, that it is about
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


def log_to_stderr(settings: LogSettings | None = None) -> None:
    """What the worker and the relay say, at INFO or in detail at DEBUG, and what the libraries below them complain of."""
    handler = logging.StreamHandler(sys.stderr)
    settings = settings or LogSettings()
    handler.setFormatter(_json_lines() if settings.log_format == "json" else OneLine(_FORMAT))
    handler.addFilter(_Repeats())
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    logging.getLogger("worker").setLevel(settings.log_level.upper())
    for name, level in _LEVELS.items():
        logging.getLogger(name).setLevel(level)


def _json_lines() -> logging.Formatter:
    """An object a line, its traceback in it: whatever text is in a record, JSON's escapes keep it there."""
    import structlog  # noqa: PLC0415 - a tenth of every command's start, and few log as JSON

    fields = [*_IDS, *(f"{name}s" for name in _IDS)]
    about: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.stdlib.ExtraAdder(allow=fields),
    ]
    rendered: list[Any] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        structlog.processors.EventRenamer("message"),
        structlog.processors.JSONRenderer(serializer=lambda line, **_: printable_json(line)),
    ]
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=about, processors=rendered)


def only_errors_of_ours() -> None:
    """For commands that people type: what went wrong is one line of the command's own, not the clients' account of every attempt."""
    logging.getLogger().addHandler(logging.NullHandler())
