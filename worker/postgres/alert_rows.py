"""An alert's state as one row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from psycopg.types.json import Jsonb

from worker.domain.alert import Alert
from worker.postgres.rows import one_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.postgres.storage import Key, Storage


def _from_row(row: Sequence[Any]) -> Alert:
    (_, _, version, created_at, updated_at, source, fingerprint, name, severity, status, labels, annotations, starts_at, ends_at, episode,
     observed_at, incident_id, acknowledged_by, acknowledged_at, silenced_until, silence_reason) = row  # fmt: skip
    return Alert(
        version=version,
        created_at=created_at,
        updated_at=updated_at,
        source=source,
        fingerprint=fingerprint,
        name=name,
        severity=severity,
        status=status,
        labels=labels,
        annotations=annotations,
        starts_at=starts_at,
        ends_at=ends_at,
        episode=episode,
        observed_at=observed_at,
        incident_id=incident_id,
        acknowledged_by=acknowledged_by,
        acknowledged_at=acknowledged_at,
        silenced_until=silenced_until,
        silence_reason=silence_reason,
    )


def _to_row(key: Key, alert: Alert) -> dict[str, object]:
    return {
        "tenant_id": key[0],
        "alert_id": key[1],
        "version": alert.version,
        "created_at": alert.created_at,
        "updated_at": alert.updated_at,
        "source": alert.source,
        "fingerprint": alert.fingerprint,
        "name": alert.name,
        "severity": alert.severity,
        "status": alert.status,
        "labels": Jsonb(alert.labels),
        "annotations": Jsonb(alert.annotations),
        "starts_at": alert.starts_at,
        "ends_at": alert.ends_at,
        "episode": alert.episode,
        "observed_at": alert.observed_at,
        "incident_id": alert.incident_id,
        "acknowledged_by": alert.acknowledged_by,
        "acknowledged_at": alert.acknowledged_at,
        "silenced_until": alert.silenced_until,
        "silence_reason": alert.silence_reason,
    }


ALERT_STORAGE: Final[Storage] = one_row("alert", _from_row, _to_row)
