"""A real message for every code of the aggregates other than the SLO: in rounds, since nothing orders two topics or two aggregates."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tests.support.records import CODEC
from worker.client import Intent, to_outgoing
from worker.domain.aggregate import intent_name
from worker.domain.alert import AcknowledgeAlert, IngestAlert, alert_id_of
from worker.domain.fleetstate import RecordFleetState, stream_id
from worker.domain.healthcheck import RecordHealthCheck, healthcheck_id
from worker.domain.ids import uid
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
from worker.domain.runbook import CreateRunbook, RunbookStep
from worker.domain.runbook_execution import (
    ApproveRunbookExecution,
    CancelRunbookExecution,
    ExecuteRunbook,
    RecordRunbookExecutionResult,
)

if TYPE_CHECKING:
    from worker.client import Outgoing

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)

Round = list[tuple["Outgoing", str | None]]
"""Records, each with the code that it must come to (None: accepted); those of one aggregate are decided in their order."""


def ask(command: object, aggregate_id: str, time: datetime = NOW) -> Outgoing:
    return to_outgoing(Intent(intent_name(type(command)), "acme", aggregate_id, command, "/tests", time=time), CODEC)


def incident_id(name: str) -> str:
    return str(uid("test", name))


def created(title: str = "Down", **changes: object) -> CreateIncident:
    fields: dict[str, object] = {"title": title, "severity": "high", "source": "manual", "actor": "ann", **changes}
    return CreateIncident(**fields)  # type: ignore[arg-type]


def firing(fingerprint: str) -> IngestAlert:
    labels = {"alertname": "DiskFull", "disk": fingerprint}
    text = {"source": "custom", "fingerprint": fingerprint, "name": "DiskFull", "severity": "high", "status": "firing"}
    return IngestAlert(**text, labels=labels, starts_at=NOW - HOUR)  # type: ignore[arg-type]


def alert_id(fingerprint: str) -> str:
    return alert_id_of("acme", "custom", fingerprint)


def on_an_incident() -> Round:
    one = incident_id("one")
    return [
        (ask(created(), one), None),
        (ask(created(), one), "INCIDENT_ALREADY_EXISTS"),
        (ask(created(affected_resources=("prod//checkout",)), one), "RESOURCE_REF_INVALID"),
        (ask(ReclassifyIncidentSeverity(severity="high", actor="ann"), one), "SEVERITY_UNCHANGED"),
        (ask(AssignIncident(assigned_to=" ", actor="ann"), one), "ASSIGNEE_REQUIRED"),
        (ask(AddIncidentTimelineEntry(kind="gossip", text="?", occurred_at=NOW, actor="ann"), one), "TIMELINE_KIND_UNKNOWN"),
        (ask(TransitionIncidentStatus(status="closed", actor="ann"), one), "USE_DEDICATED_INTENT"),
        (ask(TransitionIncidentStatus(status="mitigating", actor="ann"), one), "INVALID_TRANSITION"),
        (ask(CloseIncident(actor="ann"), one), "INCIDENT_NOT_RESOLVED"),
        (ask(ResolveIncident(resolution=" ", actor="ann"), one), "RESOLUTION_REQUIRED"),
        (ask(AcknowledgeIncident(actor="ann"), one), None),
        (ask(AcknowledgeIncident(actor="ben"), one), "ALREADY_ACKNOWLEDGED"),
        (ask(ResolveIncident(resolution="Gone.", actor="ann"), one, NOW - HOUR), "TIMESTAMP_REGRESSION"),
        (ask(MergeIncidents(actor="ann"), one), "MERGE_TARGET_INVALID"),
        (ask(CorrelateAlertsToIncident(actor="ann"), one), "CORRELATION_EMPTY"),
        (ask(CorrelateAlertsToIncident(alert_ids=(alert_id("nobody's"),), actor="ann"), one), "ALERT_NOT_FOUND"),
        (ask(ResolveIncident(resolution="Gone.", actor="ann"), one), None),
        (ask(CorrelateAlertsToIncident(alert_ids=(alert_id("disk-1"),), actor="ann"), one), "INCIDENT_NOT_OPEN"),
        (ask(CloseIncident(actor="ann"), one), None),
        (ask(AssignIncident(assigned_to="ben", actor="ann"), one), "INCIDENT_CLOSED"),
        (ask(AcknowledgeIncident(actor="ann"), incident_id("nobody's")), "INCIDENT_NOT_FOUND"),
        (ask(created(), incident_id("two")), None),
        (ask(created(), incident_id("three")), None),
    ]


def on_an_alert() -> Round:
    alert, one = firing("disk-1"), alert_id("disk-1")
    ended = replace(alert, status="resolved", ends_at=NOW)
    return [
        (ask(alert, one), None),
        (ask(replace(alert, status="smoldering"), one), "ALERT_STATUS_INVALID"),
        (ask(replace(alert, labels={"disk": ""}), one), "ALERT_LABELS_EMPTY"),
        (ask(replace(alert, fingerprint=" "), one), "FINGERPRINT_REQUIRED"),
        (ask(replace(alert, source="prometheus"), one), "FINGERPRINT_MISMATCH"),
        (ask(replace(alert, starts_at=None), one), "ALERT_TIME_RANGE_INVALID"),
        (ask(replace(alert, severity="low"), one, NOW - HOUR), "ALERT_STALE"),
        (ask(ended, one), None),
        (ask(AcknowledgeAlert(actor="ann"), one), "ALERT_NOT_FIRING"),
        (ask(firing("disk-2"), alert_id("disk-2")), None),
    ]


def on_a_runbook() -> Round:
    steps = (RunbookStep(step_id="look", title="Look"),)
    text = {"title": "Free a disk", "automation_level": "manual", "owner": "sre", "actor": "ann"}
    create = CreateRunbook(**text, approval_required=True, steps=steps)  # type: ignore[arg-type]
    one, execution = "free-a-disk", str(uid("fact", "acme", "runbook", "free-a-disk", "2"))
    by_ben = ApproveRunbookExecution(execution_id=execution, actor="ben")
    result = RecordRunbookExecutionResult(execution_id=execution, outcome="succeeded", actor="robot")
    return [
        (ask(create, one), None),
        (ask(create, one), "RUNBOOK_ALREADY_EXISTS"),
        (ask(replace(create, steps=()), one), "STEPS_EMPTY"),
        (ask(replace(create, steps=steps * 2), one), "STEP_ID_DUPLICATE"),
        (ask(replace(create, automation_level="automated"), one), "AUTOMATION_LEVEL_INVALID"),
        (ask(ExecuteRunbook(approve_within_seconds=60, actor="ann"), one), None),
        (ask(result, one), "APPROVAL_REQUIRED"),
        (ask(replace(by_ben, actor="ann"), one), "APPROVER_IS_REQUESTER"),
        (ask(by_ben, one, NOW + timedelta(minutes=2)), "APPROVAL_EXPIRED"),
        (ask(replace(by_ben, execution_id=str(uid("test", "none"))), one), "EXECUTION_NOT_FOUND"),
        (ask(CancelRunbookExecution(execution_id=execution, actor="ann"), one), None),
        (ask(by_ben, one), "EXECUTION_TERMINAL"),
        (ask(ExecuteRunbook(actor="ann"), "no-such-runbook"), "RUNBOOK_NOT_FOUND"),
    ]


def on_health() -> Round:
    check = RecordHealthCheck(resource_ref="prod/payments/checkout", source="probe", timestamp=NOW, status="healthy")
    one = healthcheck_id("acme", check.resource_ref, check.source)
    counts = dict.fromkeys(("healthy_count", "degraded_count", "progressing_count", "unknown_count", "out_of_sync_count"), 0)
    fleet = RecordFleetState(environment_id="prod", cluster_id="eu", timestamp=NOW, total_applications=0, **counts)
    cluster = stream_id("acme", "prod", "eu")
    return [
        (ask(check, one), None),
        (ask(replace(check, status="fine"), one), "HEALTH_STATUS_INVALID"),
        (ask(replace(check, source="guess"), one), "HEALTH_SOURCE_INVALID"),
        (ask(replace(check, timestamp=NOW - HOUR), one), "HEALTH_STALE"),
        (ask(fleet, cluster), None),
        (ask(replace(fleet, healthy_count=-1), cluster), "FLEET_COUNT_NEGATIVE"),
        (ask(replace(fleet, healthy_count=1), cluster), "FLEET_COUNTS_MISMATCH"),
        (ask(replace(fleet, timestamp=NOW - HOUR), cluster), "FLEET_STALE"),
    ]


def rounds() -> list[Round]:
    correlate = CorrelateAlertsToIncident(alert_ids=(alert_id("disk-2"),), actor="ann")
    return [
        [*on_an_incident(), *on_an_alert(), *on_a_runbook(), *on_health()],
        [(ask(correlate, incident_id("two")), None)],
        [(ask(correlate, incident_id("three")), "ALERT_ALREADY_CORRELATED")],
    ]
