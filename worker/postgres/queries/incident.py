"""Incidents as they are committed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worker.domain.fields import parse_rfc3339
from worker.domain.incident import TimelineEntry
from worker.postgres.queries.reading import DEFAULT_PAGE_SIZE, DEFAULT_WAIT_SECONDS, Page, Row, read_one, read_page

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    import psycopg


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentView:
    """An incident, times in UTC; `timeline` in the order of its entries, None in a list."""

    tenant_id: str
    incident_id: str
    version: int
    created_at: datetime
    updated_at: datetime
    title: str
    description: str
    severity: str
    status: str
    source: str
    affected_resources: tuple[str, ...]
    assigned_to: str | None
    acknowledged_by: str | None
    acknowledged_at: datetime | None
    resolution: str | None
    resolved_at: datetime | None
    merged_into: str | None
    alert_count: int
    status_changed_at: datetime
    timeline: tuple[TimelineEntry, ...] | None


@dataclass(frozen=True, slots=True)
class SreIncidentQueryService:
    """On a connection of `connect_reader`. Raises QueryError, psycopg.OperationalError while PostgreSQL is away."""

    connection: psycopg.Connection[Any]

    def get_incident(
        self, tenant: str, incident_id: str, *, min_version: int | None = None, wait_seconds: float = DEFAULT_WAIT_SECONDS
    ) -> IncidentView | None:
        return read_one(
            self.connection,
            "incident_query",
            "get_incident",
            _incident,
            min_version=min_version,
            wait_seconds=wait_seconds,
            tenant=tenant,
            incident_id=incident_id,
        )

    def list_open_incidents(self, tenant: str, page_size: int = DEFAULT_PAGE_SIZE, after: str | None = None) -> Page[IncidentView]:
        """A page of those not resolved or closed, by (created_at, incident_id); later pages leave out what is resolved meanwhile."""
        return read_page(self.connection, "incident_query", "list_open_incidents", _incident, page_size, tenant=tenant, after=after)


def _incident(row: Row) -> IncidentView:
    return IncidentView(
        tenant_id=row["tenant_id"],
        incident_id=row["incident_id"],
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        title=row["title"],
        description=row["description"],
        severity=row["severity"],
        status=row["status"],
        source=row["source"],
        affected_resources=tuple(row["affected_resources"]),
        assigned_to=row["assigned_to"],
        acknowledged_by=row["acknowledged_by"],
        acknowledged_at=row["acknowledged_at"],
        resolution=row["resolution"],
        resolved_at=row["resolved_at"],
        merged_into=row["merged_into"],
        alert_count=row["alert_count"],
        status_changed_at=row["status_changed_at"],
        timeline=None if row["timeline"] is None else tuple(_entries(row["timeline"])),
    )


def _entries(timeline: Iterable[Row]) -> Iterable[TimelineEntry]:
    for entry in timeline:
        yield TimelineEntry(**{**entry, "occurred_at": parse_rfc3339(entry["occurred_at"])})
