"""What the query services share: their connection, one transaction a read, coded errors, pages, and waiting for a version."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import psycopg
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Format, TransactionStatus
from psycopg.rows import dict_row

from worker.errors import WorkerError
from worker.postgres.connection import CONNECTION_DEFAULTS
from worker.postgres.named_sql import statements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psycopg.abc import Buffer

T = TypeVar("T")
Row = dict[str, Any]

DEFAULT_PAGE_SIZE: Final = 50
DEFAULT_WAIT_SECONDS: Final = 1.0

# A standby that is behind does not answer, unless the DSN says that it may.
_READER_DEFAULTS: Final = CONNECTION_DEFAULTS | {"application_name": "sre-domain query", "target_session_attrs": "primary"}
_NOT_YET: Final = "NOT_YET"
_FIRST_PAUSE_SECONDS: Final = 0.01
_LONGEST_PAUSE_SECONDS: Final = 0.2
_SQLSTATE_PREFIX: Final = "SRE"
_INT4_MAX: Final = 2**31 - 1
_INT8_MAX: Final = 2**63 - 1
_POSTGRES_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


class QueryError(WorkerError):
    """Why a query is not answered; the message starts with the code.

    TENANT_REQUIRED, TENANT_MISMATCH, PAGE_SIZE_INVALID, PAGE_TOKEN_INVALID, MIN_VERSION_INVALID, or NOT_YET, which is worth another try.
    """

    @property
    def code(self) -> str:
        return str(self).partition(":")[0]


class _UtcLoader(Loader):
    """UTC, whatever the session's time zone: in another one the first and last hours of datetime's years don't exist."""

    format = Format.BINARY

    def load(self, data: Buffer) -> datetime:
        return _POSTGRES_EPOCH + timedelta(microseconds=int.from_bytes(data, "big", signed=True))


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Rows of a list; `next` is the `after` of the page behind, None where this page was not full and so is the last."""

    items: tuple[T, ...]
    next: str | None


def connect_reader(dsn: str) -> psycopg.Connection[Any]:
    """A reader's connection: to a primary unless the DSN says otherwise, every transaction READ ONLY. Raises psycopg.OperationalError."""
    connection = psycopg.connect(make_conninfo(**_READER_DEFAULTS | conninfo_to_dict(dsn)), autocommit=True)
    connection.read_only = True
    return connection


def read_rows(connection: psycopg.Connection[Any], file: str, statement: str, **arguments: object) -> list[Row]:
    """The rows of a statement of sql/queries/<file>.sql, in a transaction of its own, which sees all that is committed by now.

    Raises QueryError; psycopg.OperationalError while PostgreSQL is away, psycopg.ProgrammingError where a transaction is open already.
    """
    if connection.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
        raise psycopg.ProgrammingError("a query is a transaction of its own: the connection has one open")
    storable = {name: _storable(value) if isinstance(value, str) else value for name, value in arguments.items()}
    with _coded_errors(), connection.transaction(), connection.cursor(row_factory=dict_row, binary=True) as cursor:
        cursor.adapters.register_loader("timestamptz", _UtcLoader)
        return cursor.execute(statements(file)[statement], storable).fetchall()


def read_page(
    connection: psycopg.Connection[Any], file: str, statement: str, view: Callable[[Row], T], page_size: int, **arguments: object
) -> Page[T]:
    """A page of a list, whose rows carry their own page_token. Raises as read_rows does."""
    asked = min(max(page_size, 0), _INT4_MAX)  # beyond int4 is refused as the wrong size that it is
    rows = read_rows(connection, file, statement, page_size=asked, **arguments)
    return Page(tuple(map(view, rows)), rows[-1]["page_token"] if len(rows) == page_size else None)


def read_one(
    connection: psycopg.Connection[Any],
    file: str,
    statement: str,
    view: Callable[[Row], T],
    *,
    min_version: int | None,
    wait_seconds: float,
    **arguments: object,
) -> T | None:
    """The one row, or None; with a min_version it is at that or a later one. Raises as read_rows does, and NOT_YET as once_visible does."""
    asked = storable_version(min_version)
    rows = once_visible(lambda: read_rows(connection, file, statement, min_version=asked, **arguments), wait_seconds)
    return view(rows[0]) if rows else None


def once_visible(read: Callable[[], T], wait_seconds: float) -> T:
    """What is read as soon as it isn't NOT_YET any more; raises that as QueryError when the time is over, at once for 0 seconds."""
    deadline = time.monotonic() + wait_seconds
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            return read()
        except QueryError as error:
            seconds_left = deadline - time.monotonic()
            if error.code != _NOT_YET or not seconds_left > 0:
                raise
        time.sleep(min(pause, seconds_left))  # outside the transaction, which would hold back the vacuum
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def storable_version(min_version: int | None) -> int | None:
    """What PostgreSQL can hold; beyond it nothing is there, and what is below 1 is wrong, as before."""
    return None if min_version is None else min(max(min_version, 0), _INT8_MAX)


def _storable(text: str) -> str:
    """The text, with a ? for what PostgreSQL can't hold (NUL, lone surrogates): no id, tenant or token has a ?, so none is found."""
    return text.encode("utf-8", "replace").decode().replace("\0", "?")


@contextmanager
def _coded_errors() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        if (error.sqlstate or "").startswith(_SQLSTATE_PREFIX):
            raise QueryError(error.diag.message_primary) from None
        raise
