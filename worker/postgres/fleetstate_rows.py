"""A fleet state as its one row, which holds the current snapshot."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from worker.domain.fleetstate import FleetState, Snapshot
from worker.postgres.rows import one_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.postgres.storage import Key, Storage


def _from_row(row: Sequence[Any]) -> FleetState:
    (_, _, version, created_at, updated_at, fleetstate_id, environment_id, cluster_id, timestamp,
     total, healthy, degraded, progressing, unknown, out_of_sync) = row  # fmt: skip
    current = Snapshot(
        environment_id=environment_id,
        cluster_id=cluster_id,
        timestamp=timestamp,
        total_applications=total,
        healthy_count=healthy,
        degraded_count=degraded,
        progressing_count=progressing,
        unknown_count=unknown,
        out_of_sync_count=out_of_sync,
    )
    return FleetState(version, created_at, updated_at, fleetstate_id, current)


def _to_row(key: Key, fleet: FleetState) -> dict[str, object]:
    return {
        "tenant_id": key[0],
        "stream_id": key[1],
        "version": fleet.version,
        "created_at": fleet.created_at,
        "updated_at": fleet.updated_at,
        "fleetstate_id": fleet.fleetstate_id,
        **asdict(fleet.current),
    }


FLEETSTATE_STORAGE: Final[Storage] = one_row("fleetstate", _from_row, _to_row)
