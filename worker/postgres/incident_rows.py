"""An incident's state as rows: one of incident, and the entries that a batch adds to its timeline."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from worker.domain.incident import Incident, TimelineEntry
from worker.postgres.named_sql import statements
from worker.postgres.rows import lock_rows, write_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from psycopg import AsyncConnection

    from worker.domain.incident_messages import Command
    from worker.postgres.storage import Change, Key


async def lock(connection: AsyncConnection[Any], commands: Mapping[Key, Sequence[Command]]) -> dict[Key, Incident]:
    """Lock the incidents and read them, without their timelines: no decision looks at an entry."""
    return {(row[0], row[1]): _from_row(row) for row in await lock_rows(connection, "incident", commands)}


async def read_all(connection: AsyncConnection[Any]) -> dict[Key, Incident]:
    """Every incident with its whole timeline: for an audit, not for a batch."""
    sql = statements("incident")
    rows = await (await connection.execute(sql["all_rows"], binary=True)).fetchall()
    timelines: dict[Key, list[TimelineEntry]] = defaultdict(list)
    for row in await (await connection.execute(sql["all_entries"], binary=True)).fetchall():
        tenant_id, incident_id, entry_id, kind, text, occurred_at, actor = row
        entry = TimelineEntry(entry_id=entry_id, kind=kind, text=text, occurred_at=occurred_at, actor=actor)
        timelines[tenant_id, incident_id].append(entry)
    return {(row[0], row[1]): replace(_from_row(row), timeline=tuple(timelines[row[0], row[1]])) for row in rows}


async def save(connection: AsyncConnection[Any], changes: Mapping[Key, Change]) -> None:
    """Write what changed; meant to run inside a pipeline."""
    sql = statements("incident")
    created = [_created_row(key, change.after) for key, change in changes.items() if change.before is None]
    updated = [_row(key, change.after) for key, change in changes.items() if change.before is not None]
    await write_rows(connection, sql["insert_rows"], created)
    await write_rows(connection, sql["update_rows"], updated)
    await write_rows(connection, sql["insert_entries"], [row for key, change in changes.items() for row in _entry_rows(key, change)])


def _from_row(row: Sequence[Any]) -> Incident:
    (_, _, version, created_at, updated_at, title, description, severity, status, source, affected_resources, assigned_to, timeline_length,
     acknowledged_by, acknowledged_at, resolution, resolved_at, merged_into, alert_count, status_changed_at) = row  # fmt: skip
    return Incident(
        version=version,
        created_at=created_at,
        updated_at=updated_at,
        title=title,
        description=description,
        severity=severity,
        status=status,
        source=source,
        affected_resources=tuple(affected_resources),
        assigned_to=assigned_to,
        timeline=(),
        timeline_length=timeline_length,
        acknowledged_by=acknowledged_by,
        acknowledged_at=acknowledged_at,
        resolution=resolution,
        resolved_at=resolved_at,
        merged_into=merged_into,
        alert_count=alert_count,
        status_changed_at=status_changed_at,
    )


def _created_row(key: Key, incident: Incident) -> dict[str, object]:
    lasting = {
        "created_at": incident.created_at,
        "title": incident.title,
        "description": incident.description,
        "source": incident.source,
    }
    return lasting | _row(key, incident)


def _row(key: Key, incident: Incident) -> dict[str, object]:
    return {
        "tenant_id": key[0],
        "incident_id": key[1],
        "version": incident.version,
        "updated_at": incident.updated_at,
        "severity": incident.severity,
        "status": incident.status,
        "affected_resources": Jsonb(incident.affected_resources),
        "assigned_to": incident.assigned_to,
        "timeline_length": incident.timeline_length,
        "acknowledged_by": incident.acknowledged_by,
        "acknowledged_at": incident.acknowledged_at,
        "resolution": incident.resolution,
        "resolved_at": incident.resolved_at,
        "merged_into": incident.merged_into,
        "alert_count": incident.alert_count,
        "status_changed_at": incident.status_changed_at,
    }


def _entry_rows(key: Key, change: Change) -> Iterator[dict[str, object]]:
    held_before = 0 if change.before is None else len(change.before.timeline)
    added = change.after.timeline[held_before:]
    for position, entry in enumerate(added, start=change.after.timeline_length - len(added) + 1):
        yield {
            "tenant_id": key[0],
            "incident_id": key[1],
            "position": position,
            "entry_id": entry.entry_id,
            "kind": entry.kind,
            "text": entry.text,
            "occurred_at": entry.occurred_at,
            "actor": entry.actor,
        }
