"""What the query services share: one transaction a read, coded errors, pages and rows by column name."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import psycopg
from psycopg.adapt import Loader
from psycopg.pq import Format
from psycopg.rows import dict_row

from worker.errors import WorkerError
from worker.postgres.named_sql import statements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psycopg.abc import Buffer

T = TypeVar("T")
Row = dict[str, Any]

DEFAULT_PAGE_SIZE: Final = 50
_SQLSTATE_PREFIX: Final = "SRE"
_INT4_MAX: Final = 2**31 - 1
_POSTGRES_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


class QueryError(WorkerError):
    """An argument of a query is wrong: TENANT_REQUIRED, PAGE_SIZE_INVALID or PAGE_TOKEN_INVALID, and the message starts with it."""

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


def read_rows(connection: psycopg.Connection[Any], file: str, statement: str, **arguments: object) -> list[Row]:
    """The rows of a statement of sql/queries/<file>.sql. Raises QueryError, and psycopg.OperationalError while PostgreSQL is away."""
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
