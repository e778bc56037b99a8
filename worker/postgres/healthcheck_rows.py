"""A health check's state as its one row."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from psycopg.types.json import Jsonb

from worker.domain.healthcheck import Assessment, HealthCheck, HealthCondition
from worker.postgres.rows import one_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.postgres.storage import Key, Storage


def _from_row(row: Sequence[Any]) -> HealthCheck:
    _, _, version, created_at, updated_at, resource_ref, source, timestamp, status, raw_status, conditions = row
    latest = Assessment(
        resource_ref=resource_ref,
        source=source,
        timestamp=timestamp,
        status=status,
        raw_status=raw_status,
        conditions=tuple(HealthCondition(**condition) for condition in conditions),
    )
    return HealthCheck(version, created_at, updated_at, latest)


def _to_row(key: Key, healthcheck: HealthCheck) -> dict[str, object]:
    latest = healthcheck.latest
    return {
        "tenant_id": key[0],
        "healthcheck_id": key[1],
        "version": healthcheck.version,
        "created_at": healthcheck.created_at,
        "updated_at": healthcheck.updated_at,
        "resource_ref": latest.resource_ref,
        "source": latest.source,
        "timestamp": latest.timestamp,
        "status": latest.status,
        "raw_status": latest.raw_status,
        "conditions": Jsonb([asdict(condition) for condition in latest.conditions]),
    }


HEALTHCHECK_STORAGE: Final[Storage] = one_row("healthcheck", _from_row, _to_row)
