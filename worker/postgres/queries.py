"""Reads of committed state, typed; each operation is one SQL function of schema sre_query."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import psycopg
from psycopg.rows import dict_row

from worker.domain.slo import SliSpec
from worker.errors import WorkerError
from worker.postgres.named_sql import statements

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from decimal import Decimal

T = TypeVar("T")

DEFAULT_PAGE_SIZE: Final = 50
_SQLSTATE_PREFIX: Final = "SRE"
_INT4_MAX: Final = 2**31 - 1


class QueryError(WorkerError):
    """An argument of a query is wrong: TENANT_REQUIRED, PAGE_SIZE_INVALID or PAGE_TOKEN_INVALID, and the message starts with it."""

    @property
    def code(self) -> str:
        return str(self).partition(":")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class SLOView:
    """An SLO's definition and error budget; target, remaining and consumed in percent with six places, times in UTC."""

    tenant_id: str
    slo_id: str
    version: int
    created_at: datetime
    updated_at: datetime
    name: str
    description: str
    owner: str
    scope: str
    target: Decimal
    window: str
    sli_spec: SliSpec
    budget_status: str
    current_budget_remaining: Decimal
    budget_consumed: Decimal
    as_of: datetime | None
    measured_from: datetime | None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Rows of a list; `next` is the `after` of the page behind, None where this page was not full and so is the last."""

    items: tuple[T, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class SreSLOQueryService:
    """SLOs as they are committed. Raises QueryError for a wrong argument, psycopg.OperationalError while PostgreSQL is away."""

    connection: psycopg.Connection[Any]

    def get_slo(self, tenant: str, slo_id: str) -> SLOView | None:
        rows = self._rows("get_slo", {"tenant": _storable(tenant), "slo_id": _storable(slo_id)})
        return _slo(rows[0]) if rows else None

    def list_slos(self, tenant: str, page_size: int = DEFAULT_PAGE_SIZE, after: str | None = None) -> Page[SLOView]:
        """A page by (created_at, slo_id); what is written meanwhile moves no row from one page to another."""
        arguments = {
            "tenant": _storable(tenant),
            "page_size": min(max(page_size, 0), _INT4_MAX),  # beyond int4 is refused as the wrong size that it is
            "after": None if after is None else _storable(after),
        }
        rows = self._rows("list_slos", arguments)
        return Page(tuple(map(_slo, rows)), rows[-1]["page_token"] if len(rows) == page_size else None)

    def _rows(self, statement: str, arguments: Mapping[str, object]) -> list[dict[str, Any]]:
        with _coded_errors(), self.connection.transaction(), self.connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(statements("slo_query")[statement], arguments).fetchall()


@contextmanager
def _coded_errors() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        if (error.sqlstate or "").startswith(_SQLSTATE_PREFIX):
            raise QueryError(error.diag.message_primary) from None
        raise


def _storable(text: str) -> str:
    """The text, with a ? for what PostgreSQL can't hold (NUL, lone surrogates): no id, tenant or token has a ?, so none is found."""
    return text.encode("utf-8", "replace").decode().replace("\0", "?")


def _slo(row: Mapping[str, Any]) -> SLOView:
    return SLOView(
        tenant_id=row["tenant_id"],
        slo_id=row["slo_id"],
        version=row["version"],
        created_at=row["created_at"].astimezone(UTC),
        updated_at=row["updated_at"].astimezone(UTC),
        name=row["name"],
        description=row["description"],
        owner=row["owner"],
        scope=row["scope"],
        target=row["target"],
        window=row["window"],
        sli_spec=SliSpec(
            good=row["sli_good"],
            total=row["sli_total"],
            budgeting_method=row["budgeting_method"],
            slice_seconds=row["slice_seconds"],
            slice_target=row["slice_target"],
        ),
        budget_status=row["budget_status"],
        current_budget_remaining=row["current_budget_remaining"],
        budget_consumed=row["budget_consumed"],
        as_of=_utc(row["as_of"]),
        measured_from=_utc(row["measured_from"]),
    )


def _utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.astimezone(UTC)
