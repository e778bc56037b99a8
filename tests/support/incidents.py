"""Incidents and what is asked of them, for tests: commands with everything filled in, ids that sort as they are numbered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.domain.incident_messages import (
    AcknowledgeIncident,
    AddIncidentTimelineEntry,
    AssignIncident,
    CloseIncident,
    CorrelateAlertsToIncident,
    CreateIncident,
    MergeIncidents,
    ReclassifyIncidentSeverity,
    ResolveIncident,
    TransitionIncidentStatus,
)

if TYPE_CHECKING:
    from datetime import datetime


def numbered(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012x}"


def create(*resources: str, **changes: object) -> CreateIncident:
    described: dict[str, object] = {"title": "Checkout is slow", "severity": "high", "source": "manual", "actor": "ann"}
    return CreateIncident(**{**described, "affected_resources": resources, **changes})  # type: ignore[arg-type]


def reclassify(severity: str = "low", version: int | None = None) -> ReclassifyIncidentSeverity:
    return ReclassifyIncidentSeverity(severity=severity, reason="fewer are hit", actor="ann", expected_version=version)


def assign(assigned_to: str = "bob", version: int | None = None) -> AssignIncident:
    return AssignIncident(assigned_to=assigned_to, actor="ann", expected_version=version)


def add_entry(
    occurred_at: datetime, text: str = "p99 is 4 s", kind: str = "observation", version: int | None = None
) -> AddIncidentTimelineEntry:
    return AddIncidentTimelineEntry(kind=kind, text=text, occurred_at=occurred_at, actor="ann", expected_version=version)


def acknowledge(actor: str = "bob", version: int | None = None) -> AcknowledgeIncident:
    return AcknowledgeIncident(note="on it", actor=actor, expected_version=version)


def transition(status: str = "investigating", version: int | None = None) -> TransitionIncidentStatus:
    return TransitionIncidentStatus(status=status, reason="next step", actor="bob", expected_version=version)


def resolve(resolution: str = "rolled back", version: int | None = None) -> ResolveIncident:
    return ResolveIncident(resolution=resolution, actor="bob", expected_version=version)


def close(version: int | None = None) -> CloseIncident:
    return CloseIncident(reason="reviewed", actor="ann", expected_version=version)


def merge(*incident_ids: str, version: int | None = None) -> MergeIncidents:
    return MergeIncidents(merged_incident_ids=incident_ids, reason="one cause", actor="ann", expected_version=version)


def correlate(*alert_ids: str, version: int | None = None) -> CorrelateAlertsToIncident:
    return CorrelateAlertsToIncident(alert_ids=alert_ids, actor="ann", expected_version=version)
