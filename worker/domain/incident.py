"""Incident: what is wrong, who works on it and how far they are, from its opening to its closing for good.

Reads as the Incident chapter of docs/contract.md does: state, check(), decide(), evolve(). Its commands and facts are in
incident_messages.py. What takes other aggregates' states too is decided in merging.py and correlation.py.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, assert_never

from worker.domain.alerts_correlated import AlertsCorrelatedToIncident
from worker.domain.fields import blank, format_rfc3339, is_ref, uuid
from worker.domain.ids import uid
from worker.domain.incident_messages import (
    AcknowledgeIncident,
    AddIncidentTimelineEntry,
    AssignIncident,
    CloseIncident,
    Command,
    CorrelateAlertsToIncident,
    CreateIncident,
    Fact,
    IncidentAcknowledged,
    IncidentAssigned,
    IncidentClosed,
    IncidentCreated,
    IncidentResolved,
    IncidentSeverityChanged,
    IncidentsMerged,
    IncidentStatusChanged,
    IncidentTimelineEntryAdded,
    LiveCommand,
    LoneCommand,
    MergeIncidents,
    ReclassifyIncidentSeverity,
    ResolveIncident,
    TransitionIncidentStatus,
)
from worker.domain.incident_status import ACKNOWLEDGED, CLOSED, DEDICATED, OPEN, RESOLVED, TRANSITIONS
from worker.domain.outcome import CLOCK_TOLERANCE, NO_CHANGE, Context, NoChange
from worker.domain.rejection import Rejection, RejectionCode, refuse_fields, refuse_other_version

MAX_TIMELINE: Final = 500
TIMELINE_KINDS: Final = ("note", "observation", "action", "decision", "communication")

check_id = uuid  # an incident's id is chosen by its creator

Outcome = tuple[Fact, ...] | NoChange | Rejection


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """`entry_id` is the ce_id of the fact that added it."""

    entry_id: str
    kind: str
    text: str
    occurred_at: datetime
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """The row. `timeline` may hold only what was added since the row was read; `timeline_length` counts all of it."""

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
    timeline: tuple[TimelineEntry, ...]
    timeline_length: int
    acknowledged_by: str | None
    acknowledged_at: datetime | None
    resolution: str | None
    resolved_at: datetime | None
    merged_into: str | None
    alert_count: int
    status_changed_at: datetime


def check(command: Command, context: Context) -> Rejection | None:
    """The rules that need nothing stored, in the contract's order; None where all hold."""
    match command:
        case CreateIncident():
            faults = {f"affected_resources[{at}]": _NO_REF for at, ref in enumerate(command.affected_resources) if not is_ref(ref)}
            return refuse_fields(RejectionCode.RESOURCE_REF_INVALID, faults) if faults else None
        case AssignIncident() if blank(command.assigned_to):
            return refuse_fields(RejectionCode.ASSIGNEE_REQUIRED, {"assigned_to": "must not be blank"})
        case AddIncidentTimelineEntry():
            return _check_entry(command, context)
        case TransitionIncidentStatus() if command.status in DEDICATED:
            return refuse_fields(RejectionCode.USE_DEDICATED_INTENT, {"status": f"is set by {DEDICATED[command.status]}"})
        case ResolveIncident() if blank(command.resolution):
            return refuse_fields(RejectionCode.RESOLUTION_REQUIRED, {"resolution": "must not be blank"})
        case MergeIncidents():
            return _check_merged(command, context)
        case CorrelateAlertsToIncident() if not command.alert_ids:
            return refuse_fields(RejectionCode.CORRELATION_EMPTY, {"alert_ids": "must have at least one"})
        case _:
            return None


_NO_REF: Final = "must be cluster[/namespace[/app[/pod]]]"


def _check_entry(command: AddIncidentTimelineEntry, context: Context) -> Rejection | None:
    if command.kind not in TIMELINE_KINDS:
        fault = f"must be {', '.join(TIMELINE_KINDS[:-1])} or {TIMELINE_KINDS[-1]}"
        return refuse_fields(RejectionCode.TIMELINE_KIND_UNKNOWN, {"kind": fault})
    if command.occurred_at > context.time + CLOCK_TOLERANCE:
        return refuse_fields(RejectionCode.TIMESTAMP_IN_FUTURE, {"occurred_at": "must be at most 5 minutes after ce_time"})
    return None


def _check_merged(command: MergeIncidents, context: Context) -> Rejection | None:
    merged = command.merged_incident_ids
    faults = {} if merged else {"merged_incident_ids": "must have at least one"}
    for at, incident_id in enumerate(merged):
        if incident_id == context.aggregate_id:
            faults[f"merged_incident_ids[{at}]"] = "must not be the incident that goes on"
        elif incident_id in merged[:at]:
            faults[f"merged_incident_ids[{at}]"] = "must not be listed twice"
    return refuse_fields(RejectionCode.MERGE_TARGET_INVALID, faults) if faults else None


def decide(incident: Incident | None, command: LoneCommand, context: Context) -> Outcome:
    """What a command that passed check() comes to, where it needs no other aggregate."""
    if isinstance(command, CreateIncident):
        if incident is not None:
            return Rejection(RejectionCode.INCIDENT_ALREADY_EXISTS, f"incident {context.aggregate_id} exists")
        return (IncidentCreated(**_fields(command)),)
    found = find(incident, command.expected_version, context)
    if isinstance(found, Rejection):
        return found
    if isinstance(command, AddIncidentTimelineEntry):
        return _add_entry(found, command)
    if found.status == CLOSED:
        return Rejection(RejectionCode.INCIDENT_CLOSED, f"incident {context.aggregate_id} is closed")
    return _decide_live(found, command, context)


def find(incident: Incident | None, expected_version: int | None, context: Context) -> Incident | Rejection:
    """The incident, unless it was never created or is at another version than the intent was made for."""
    if incident is None:
        return Rejection(RejectionCode.INCIDENT_NOT_FOUND, f"there is no incident {context.aggregate_id}")
    return refuse_other_version(expected_version, incident.version) or incident


def _add_entry(incident: Incident, command: AddIncidentTimelineEntry) -> Outcome:
    if incident.timeline_length >= MAX_TIMELINE:
        return Rejection(RejectionCode.LIMIT_EXCEEDED, f"the timeline has its {MAX_TIMELINE} entries")
    return (IncidentTimelineEntryAdded(kind=command.kind, text=command.text, occurred_at=command.occurred_at, actor=command.actor),)


def _decide_live(incident: Incident, command: LiveCommand, context: Context) -> Outcome:
    match command:
        case ReclassifyIncidentSeverity():
            return _reclassify(incident, command)
        case AssignIncident(assigned_to=assigned_to, actor=actor):
            if assigned_to == incident.assigned_to:
                return NO_CHANGE
            return (IncidentAssigned(previous_assigned_to=incident.assigned_to, assigned_to=assigned_to, actor=actor),)
        case AcknowledgeIncident():
            return _acknowledge(incident, command, context)
        case TransitionIncidentStatus():
            return _transition(incident, command, context)
        case ResolveIncident():
            return _resolve(incident, command, context)
        case CloseIncident():
            return _close(incident, command, context)
        case _:
            assert_never(command)


def _reclassify(incident: Incident, command: ReclassifyIncidentSeverity) -> Outcome:
    previous, severity = incident.severity, command.severity
    if severity == previous:
        return refuse_fields(RejectionCode.SEVERITY_UNCHANGED, {"severity": f"is {severity} already"})
    return (IncidentSeverityChanged(previous_severity=previous, severity=severity, reason=command.reason, actor=command.actor),)


def _acknowledge(incident: Incident, command: AcknowledgeIncident, context: Context) -> Outcome:
    if incident.acknowledged_at is not None:
        return Rejection(RejectionCode.ALREADY_ACKNOWLEDGED, f"the incident was acknowledged by {incident.acknowledged_by}")
    if incident.status != OPEN:
        return Rejection(RejectionCode.INVALID_TRANSITION, f"the incident is {incident.status}; only an open one is acknowledged")
    return _untimely(incident, context) or (IncidentAcknowledged(note=command.note, actor=command.actor),)


def _transition(incident: Incident, command: TransitionIncidentStatus, context: Context) -> Outcome:
    if command.status == incident.status:
        return NO_CHANGE
    if command.status not in TRANSITIONS[incident.status]:
        return Rejection(RejectionCode.INVALID_TRANSITION, f"nothing leads from {incident.status} to {command.status}")
    changed = IncidentStatusChanged(previous_status=incident.status, status=command.status, reason=command.reason, actor=command.actor)
    return _untimely(incident, context) or (changed,)


def _resolve(incident: Incident, command: ResolveIncident, context: Context) -> Outcome:
    if incident.status == RESOLVED:
        return Rejection(RejectionCode.INVALID_TRANSITION, "the incident is resolved already")
    resolved = IncidentResolved(previous_status=incident.status, resolution=command.resolution, actor=command.actor)
    return _untimely(incident, context) or (resolved,)


def _close(incident: Incident, command: CloseIncident, context: Context) -> Outcome:
    if incident.status != RESOLVED:
        return Rejection(RejectionCode.INCIDENT_NOT_RESOLVED, f"the incident is {incident.status}; only a resolved one is closed")
    closed = IncidentClosed(previous_status=RESOLVED, reason=command.reason, actor=command.actor)
    return _untimely(incident, context) or (closed,)


def _untimely(incident: Incident, context: Context) -> Rejection | None:
    if context.time + CLOCK_TOLERANCE >= incident.status_changed_at:
        return None
    changed_at = format_rfc3339(incident.status_changed_at)
    fault = f"must not be more than 5 minutes before {changed_at}, when the status last changed"
    return refuse_fields(RejectionCode.TIMESTAMP_REGRESSION, {"ce_time": fault})


def evolve(incident: Incident | None, fact: Fact, context: Context) -> Incident:  # noqa: C901 - a case for each fact
    """The state after a fact. Folding all facts of an incident gives its row, timeline included."""
    if isinstance(fact, IncidentCreated):
        return _created(fact, context)
    if incident is None:
        raise ValueError(f"{type(fact).__name__} on an incident that was never created")
    after = replace(incident, version=incident.version + 1, updated_at=max(incident.updated_at, context.time))
    match fact:
        case IncidentSeverityChanged(severity=severity):
            return replace(after, severity=severity)
        case IncidentAssigned(assigned_to=assigned_to):
            return replace(after, assigned_to=assigned_to)
        case IncidentTimelineEntryAdded():
            timeline = (*after.timeline, _entry(fact, context, after.version))
            return replace(after, timeline=timeline, timeline_length=after.timeline_length + 1)
        case IncidentAcknowledged(actor=actor):
            after = _in_status(after, ACKNOWLEDGED, context)
            return replace(after, acknowledged_by=actor, acknowledged_at=after.status_changed_at)
        case IncidentStatusChanged(previous_status=previous_status, status=status):
            after = _in_status(after, status, context)
            return replace(after, resolution=None, resolved_at=None) if previous_status == RESOLVED else after
        case IncidentResolved(resolution=resolution):
            after = _in_status(after, RESOLVED, context)
            return replace(after, resolution=resolution, resolved_at=after.status_changed_at)
        case IncidentClosed(merged_into=merged_into):
            return replace(_in_status(after, CLOSED, context), merged_into=merged_into)
        case IncidentsMerged(affected_resources=affected_resources):
            return replace(after, affected_resources=affected_resources)
        case AlertsCorrelatedToIncident(alerts=alerts):
            return replace(after, alert_count=after.alert_count + len(alerts))
        case _:
            assert_never(fact)


def _created(fact: IncidentCreated, context: Context) -> Incident:
    return Incident(
        version=1,
        created_at=context.time,
        updated_at=context.time,
        title=fact.title,
        description=fact.description,
        severity=fact.severity,
        status=OPEN,
        source=fact.source,
        affected_resources=fact.affected_resources,
        assigned_to=fact.assigned_to,
        timeline=(),
        timeline_length=0,
        acknowledged_by=None,
        acknowledged_at=None,
        resolution=None,
        resolved_at=None,
        merged_into=None,
        alert_count=0,
        status_changed_at=context.time,
    )


def _entry(fact: IncidentTimelineEntryAdded, context: Context, version: int) -> TimelineEntry:
    entry_id = uid("fact", context.tenant_id, "incident", context.aggregate_id, str(version))
    return TimelineEntry(entry_id=str(entry_id), kind=fact.kind, text=fact.text, occurred_at=fact.occurred_at, actor=fact.actor)


def _in_status(incident: Incident, status: str, context: Context) -> Incident:
    return replace(incident, status=status, status_changed_at=max(incident.status_changed_at, context.time))


def _fields(command: CreateIncident) -> dict[str, Any]:
    return {name: getattr(command, name) for name in CreateIncident.__dataclass_fields__}
