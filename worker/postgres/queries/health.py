"""Fleet states as they are committed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from worker.postgres.queries.reading import DEFAULT_PAGE_SIZE, DEFAULT_WAIT_SECONDS, Page, Row, once_visible, read_page, storable_version

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    import psycopg


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetStateView:
    """The current snapshot of a cluster's applications; `stream_id` is the aggregate's id, `version` counts its snapshots, times in UTC."""

    tenant_id: str
    stream_id: str
    version: int
    created_at: datetime
    updated_at: datetime
    fleetstate_id: UUID
    environment_id: str
    cluster_id: str
    timestamp: datetime
    total_applications: int
    healthy_count: int
    degraded_count: int
    progressing_count: int
    unknown_count: int
    out_of_sync_count: int


@dataclass(frozen=True, slots=True)
class SreHealthQueryService:
    """On a connection of `connect_reader`. Raises QueryError, psycopg.OperationalError while PostgreSQL is away."""

    connection: psycopg.Connection[Any]

    def get_current_fleet_state(
        self,
        tenant: str,
        environment_id: str,
        cluster_id: str | None = None,
        page_size: int = DEFAULT_PAGE_SIZE,
        after: str | None = None,
        *,
        min_version: int | None = None,
        wait_seconds: float = DEFAULT_WAIT_SECONDS,
    ) -> Page[FleetStateView]:
        """Each of the environment's clusters, or the one asked for, by (created_at, stream_id).

        A min_version is that of one cluster, which then has to be named.
        """
        read = partial(
            read_page,
            self.connection,
            "health_query",
            "get_current_fleet_state",
            _fleet_state,
            page_size,
            tenant=tenant,
            environment_id=environment_id,
            cluster_id=cluster_id,
            after=after,
            min_version=storable_version(min_version),
        )
        return once_visible(read, wait_seconds)


def _fleet_state(row: Row) -> FleetStateView:
    return FleetStateView(
        tenant_id=row["tenant_id"],
        stream_id=row["stream_id"],
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        fleetstate_id=row["fleetstate_id"],
        environment_id=row["environment_id"],
        cluster_id=row["cluster_id"],
        timestamp=row["timestamp"],
        total_applications=row["total_applications"],
        healthy_count=row["healthy_count"],
        degraded_count=row["degraded_count"],
        progressing_count=row["progressing_count"],
        unknown_count=row["unknown_count"],
        out_of_sync_count=row["out_of_sync_count"],
    )
