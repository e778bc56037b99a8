"""What people, Alertmanager, Argo CD and a robot do about the web server in the meantime: an incident from its alerts to its closing."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from worker.client import to_outgoing
from worker.demo.asking import NO_CHANGE, TENANT, Asked, ask
from worker.domain.alert import AcknowledgeAlert, SilenceAlert, UnsilenceAlert
from worker.domain.fields import format_rfc3339
from worker.domain.fleetstate import stream_id
from worker.domain.healthcheck import healthcheck_id
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
from worker.domain.rejection import RejectionCode
from worker.domain.runbook import CreateRunbook, RunbookStep, UpdateRunbook
from worker.domain.runbook_execution import (
    ApproveRunbookExecution,
    CancelRunbookExecution,
    ExecuteRunbook,
    ExpireRunbookExecutions,
    RecordRunbookExecutionResult,
    RejectRunbookExecution,
    StepResult,
)
from worker.integrations.alertmanager import read_notification
from worker.integrations.argocd import fleet_state, health_checks, read_applications

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.codec import Codec

INCIDENT: Final = str(uid("demo", "the weblog fails"))
DUPLICATE: Final = str(uid("demo", "somebody else saw it too"))
RUNBOOK: Final = "roll-back-the-weblog"

_HERE: Final = Path(__file__).parent
_FIRING, _RESOLVED, _APPLICATIONS = "alertmanager-firing.json", "alertmanager-resolved.json", "applications.json"
_CAPTURED: Final = {"2026-11-24T13:05:00Z": timedelta(minutes=37), "2026-11-24T13:41:30Z": timedelta(minutes=1)}  # how long ago


def operations(now: datetime, codec: Codec) -> Iterator[list[Asked]]:
    """What is asked together, in its order; all of it at `now`, as far as a source does not say when."""

    def on_incident(command: object, due: str = "facts", *, after: tuple[Asked, ...] = (), incident: str = INCIDENT) -> Asked:
        return ask(command, incident, now, codec, due, after=after)

    def on_runbook(command: object, due: str = "facts", time: datetime = now) -> Asked:
        return ask(command, RUNBOOK, time, codec, due)

    firing, resolved = _notification(_FIRING, now, codec), _notification(_RESOLVED, now, codec)
    alert_ids = tuple(asked.record.key.decode() for asked in firing)
    steps = (RunbookStep(step_id="look", title="Look at the last deploy"), RunbookStep(step_id="back", title="Roll back", action="argocd"))
    definition = {"title": "Roll back the weblog", "automation_level": "assisted", "approval_required": True, "owner": "sre"}
    yield [on_runbook(CreateRunbook(**definition, steps=steps, actor="ann"))]  # type: ignore[arg-type]
    yield [*_fleet(now, codec)]

    yield firing
    opened = on_incident(CreateIncident(title="The weblog fails", severity="high", source="alert", actor="ann"), after=tuple(firing))
    reported = on_incident(CreateIncident(title="Weblog?", severity="low", source="manual", actor="eve"), incident=DUPLICATE)
    yield [opened, reported]
    correlated = on_incident(CorrelateAlertsToIncident(alert_ids=alert_ids, actor="ann"), after=(opened,))
    yield [
        correlated,
        on_incident(CorrelateAlertsToIncident(alert_ids=alert_ids, actor="ann"), NO_CHANGE),
        on_incident(AcknowledgeIncident(note="on it", actor="ann")),
        on_incident(AssignIncident(assigned_to="ben", actor="ann")),
        on_incident(TransitionIncidentStatus(status="closed", actor="ann"), RejectionCode.USE_DEDICATED_INTENT),
        on_incident(TransitionIncidentStatus(status="investigating", actor="ben")),
        on_incident(ReclassifyIncidentSeverity(severity="critical", reason="the budget of the week is gone", actor="ben")),
        on_incident(AddIncidentTimelineEntry(kind="observation", text="All 5xx come from one host", occurred_at=now, actor="ben")),
    ]
    stolen = CorrelateAlertsToIncident(alert_ids=alert_ids[:1], actor="eve")
    yield [on_incident(stolen, RejectionCode.ALERT_ALREADY_CORRELATED, after=(correlated, reported), incident=DUPLICATE)]
    yield firing  # Alertmanager repeats what goes on
    yield [
        ask(AcknowledgeAlert(note="see the incident", actor="ben"), alert_ids[0], now, codec),
        ask(AcknowledgeAlert(actor="eve"), alert_ids[0], now, codec, RejectionCode.ALREADY_ACKNOWLEDGED),
        ask(SilenceAlert(until=now + timedelta(hours=1), reason="known", actor="ben"), alert_ids[2], now, codec),
        ask(UnsilenceAlert(actor="ben"), alert_ids[2], now, codec),
        *_wrong_fingerprint(firing[0], now, codec),
    ]
    yield [on_incident(MergeIncidents(merged_incident_ids=(DUPLICATE,), reason="the same", actor="ann"))]

    first, second, third = (str(uid("fact", TENANT, "runbook", RUNBOOK, version)) for version in ("2", "6", "9"))
    done = tuple(StepResult(step_id=step.step_id, status="succeeded") for step in steps)
    asks_for_it = ExecuteRunbook(incident_id=INCIDENT, parameters={"revision": "HEAD~1"}, actor="ben")
    yield [
        on_runbook(asks_for_it),
        on_runbook(ApproveRunbookExecution(execution_id=first, actor="ben"), RejectionCode.APPROVER_IS_REQUESTER),
        on_runbook(ApproveRunbookExecution(execution_id=first, note="go", actor="ann")),
        on_runbook(RecordRunbookExecutionResult(execution_id=first, outcome="succeeded", step_results=done, actor="robot")),
        on_runbook(asks_for_it),
        on_runbook(RejectRunbookExecution(execution_id=second, reason="it is done", actor="ann")),
        on_runbook(asks_for_it),
        on_runbook(CancelRunbookExecution(execution_id=third, reason="a slip", actor="ben")),
        on_runbook(ApproveRunbookExecution(execution_id=third, actor="ann"), RejectionCode.EXECUTION_TERMINAL),
        on_runbook(replace(asks_for_it, approve_within_seconds=60)),
        on_runbook(ExpireRunbookExecutions(), time=now + timedelta(seconds=61)),
        on_runbook(UpdateRunbook(**definition | {"title": "Roll the weblog back"}, steps=steps, actor="ann")),  # type: ignore[arg-type]
    ]
    yield [on_incident(TransitionIncidentStatus(status="mitigating", reason="rolled back", actor="ben"))]
    yield resolved
    yield [
        on_incident(CloseIncident(actor="ann"), RejectionCode.INCIDENT_NOT_RESOLVED),
        on_incident(ResolveIncident(resolution="The deploy of 20:55 is rolled back.", actor="ben")),
        on_incident(CloseIncident(reason="reviewed", actor="ann")),
        on_incident(AssignIncident(assigned_to="eve", actor="eve"), RejectionCode.INCIDENT_CLOSED),
    ]


def _notification(file: str, now: datetime, codec: Codec) -> list[Asked]:
    """A body that a real Alertmanager sent, moved to the last hour."""
    text = (_HERE / file).read_text(encoding="utf-8")
    for captured, ago in _CAPTURED.items():
        text = text.replace(captured, format_rfc3339(now - ago))
    intents = read_notification(text.encode(), TENANT, now).intents
    return [Asked(to_outgoing(intent, codec), intent.intent_id, "facts") for intent in intents]


def _wrong_fingerprint(alert: Asked, now: datetime, codec: Codec) -> Iterator[Asked]:
    """The same alert with a label that was edited after its fingerprint was made."""
    text = (_HERE / _FIRING).read_text(encoding="utf-8").replace("weblog-1:9113", "weblog-9:9113")
    edited = read_notification(text.encode(), TENANT, now).intents[0]
    yield ask(edited.command, alert.record.key.decode(), now, codec, RejectionCode.FINGERPRINT_MISMATCH)


def _fleet(now: datetime, codec: Codec) -> Iterator[Asked]:
    applications, _ = read_applications((_HERE / _APPLICATIONS).read_bytes())
    state = fleet_state(applications, "production", "prod-eu", now)
    fleet = stream_id(TENANT, "production", "prod-eu")
    yield ask(state, fleet, now, codec)
    yield ask(replace(state, healthy_count=state.healthy_count + 1), fleet, now, codec, RejectionCode.FLEET_COUNTS_MISMATCH)
    for check in health_checks(applications, "prod-eu", now):
        yield ask(check, healthcheck_id(TENANT, check.resource_ref, check.source), now, codec)
