"""Alerts as they are committed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worker.postgres.queries.reading import DEFAULT_PAGE_SIZE, DEFAULT_WAIT_SECONDS, Page, Row, read_one, read_page

if TYPE_CHECKING:
    from datetime import datetime

    import psycopg


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertView:
    """An alert; incident and acknowledgement are of its current episode, a silence is in force while `silenced_until` lies ahead.

    Times are in UTC.
    """

    tenant_id: str
    alert_id: str
    version: int
    created_at: datetime
    updated_at: datetime
    source: str
    fingerprint: str
    name: str
    severity: str
    status: str
    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: datetime
    ends_at: datetime | None
    episode: int
    observed_at: datetime
    incident_id: str | None
    acknowledged_by: str | None
    acknowledged_at: datetime | None
    silenced_until: datetime | None
    silence_reason: str | None


@dataclass(frozen=True, slots=True)
class SreAlertQueryService:
    """On a connection of `connect_reader`. Raises QueryError, psycopg.OperationalError while PostgreSQL is away."""

    connection: psycopg.Connection[Any]

    def get_alert(
        self, tenant: str, alert_id: str, *, min_version: int | None = None, wait_seconds: float = DEFAULT_WAIT_SECONDS
    ) -> AlertView | None:
        return read_one(
            self.connection,
            "alert_query",
            "get_alert",
            _alert,
            min_version=min_version,
            wait_seconds=wait_seconds,
            tenant=tenant,
            alert_id=alert_id,
        )

    def list_active_alerts(
        self, tenant: str, incident_id: str | None = None, page_size: int = DEFAULT_PAGE_SIZE, after: str | None = None
    ) -> Page[AlertView]:
        """A page by (created_at, alert_id) of the firing alerts, acknowledged and silenced ones too; of all, or of one incident."""
        return read_page(
            self.connection,
            "alert_query",
            "list_active_alerts",
            _alert,
            page_size,
            tenant=tenant,
            incident_id=incident_id,
            after=after,
        )


def _alert(row: Row) -> AlertView:
    return AlertView(
        tenant_id=row["tenant_id"],
        alert_id=row["alert_id"],
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        source=row["source"],
        fingerprint=row["fingerprint"],
        name=row["name"],
        severity=row["severity"],
        status=row["status"],
        labels=row["labels"],
        annotations=row["annotations"],
        starts_at=row["starts_at"],
        ends_at=row["ends_at"],
        episode=row["episode"],
        observed_at=row["observed_at"],
        incident_id=row["incident_id"],
        acknowledged_by=row["acknowledged_by"],
        acknowledged_at=row["acknowledged_at"],
        silenced_until=row["silenced_until"],
        silence_reason=row["silence_reason"],
    )
