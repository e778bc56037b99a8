"""SLOs as they are committed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worker.domain.slo import SliSpec
from worker.postgres.queries.reading import DEFAULT_PAGE_SIZE, DEFAULT_WAIT_SECONDS, Page, Row, read_one, read_page

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

    import psycopg


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
class SreSLOQueryService:
    """On a connection of `connect_reader`. Raises QueryError, psycopg.OperationalError while PostgreSQL is away."""

    connection: psycopg.Connection[Any]

    def get_slo(
        self, tenant: str, slo_id: str, *, min_version: int | None = None, wait_seconds: float = DEFAULT_WAIT_SECONDS
    ) -> SLOView | None:
        return read_one(
            self.connection,
            "slo_query",
            "get_slo",
            _slo,
            min_version=min_version,
            wait_seconds=wait_seconds,
            tenant=tenant,
            slo_id=slo_id,
        )

    def list_slos(self, tenant: str, page_size: int = DEFAULT_PAGE_SIZE, after: str | None = None) -> Page[SLOView]:
        """A page by (created_at, slo_id); what is written meanwhile moves no row from one page to another."""
        return read_page(self.connection, "slo_query", "list_slos", _slo, page_size, tenant=tenant, after=after)


def _slo(row: Row) -> SLOView:
    return SLOView(
        tenant_id=row["tenant_id"],
        slo_id=row["slo_id"],
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
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
        as_of=row["as_of"],
        measured_from=row["measured_from"],
    )
