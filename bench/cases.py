"""An intent of every kind, and what has to be there before it can be asked for; each one changes something."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from worker.domain.fields import format_rfc3339
from worker.domain.ids import uid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

REFERENCE = "RecordSLIWindow"
TENANT = "bench"
NOW = datetime.now(UTC).replace(microsecond=0)
MIDNIGHT = NOW.replace(hour=0, minute=0, second=0) - timedelta(days=5)


@dataclass(frozen=True)
class Ask:
    """An intent by its name without Requested, the id of its subject, and its fields as JSON."""

    name: str
    aggregate_id: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class Case:
    """What is measured, and what has to be there before it."""

    asks: list[Ask]
    before: list[Ask]


def cases(count: int, run: str) -> Iterator[Case]:
    """One case for each intent; every ask of a case changes something."""

    def some(kind: str) -> list[str]:
        return [str(uid(kind, run, str(number))) for number in range(count)]

    def each(name: str, ids: Iterable[str], **fields: object) -> list[Ask]:
        return [Ask(name, one, fields) for one in ids]

    def alternating(name: str, kind: str, field: str, values: tuple[str, str], **fields: object) -> list[Ask]:
        """Eight on each of an eighth as many aggregates."""
        few = some(kind)[: count // 8]
        return [Ask(name, one, {field: values[turn % 2], **fields}) for turn in range(8) for one in few]

    def incidents(kind: str) -> list[Ask]:
        return each("CreateIncident", some(kind), **INCIDENT)

    yield from _slo_cases(count, run)

    yield Case(incidents("created"), [])
    yield Case(alternating("ReclassifyIncidentSeverity", "severity", "severity", ("low", "high"), actor="ann"), incidents("severity"))
    yield Case(alternating("AssignIncident", "assigned", "assigned_to", ("ann", "ben"), actor="ann"), incidents("assigned"))
    entry = {"text": "Looked at the graphs.", "occurred_at": format_rfc3339(NOW), "actor": "ann"}
    yield Case(alternating("AddIncidentTimelineEntry", "timeline", "kind", ("note", "action"), **entry), incidents("timeline"))
    yield Case(each("AcknowledgeIncident", some("acknowledged"), actor="ann"), incidents("acknowledged"))
    steps = alternating("TransitionIncidentStatus", "stepped", "status", ("investigating", "mitigating"), actor="ann")
    yield Case(steps, incidents("stepped"))
    resolve = {"resolution": "Rolled back.", "actor": "ann"}
    yield Case(each("ResolveIncident", some("resolved"), **resolve), incidents("resolved"))
    yield Case(each("CloseIncident", some("closed"), actor="ann"), incidents("closed") + each("ResolveIncident", some("closed"), **resolve))
    merged = [
        Ask("MergeIncidents", survivor, {"merged_incident_ids": [source], "actor": "ann"})
        for survivor, source in zip(some("survivor"), some("source"), strict=True)
    ]
    yield Case(merged, incidents("survivor") + incidents("source"))
    joined = list(_alerts(count, run, "joined", status="firing"))
    correlated = [
        Ask("CorrelateAlertsToIncident", incident, {"alert_ids": [alert.aggregate_id], "actor": "ann"})
        for incident, alert in zip(some("joined"), joined, strict=True)
    ]
    yield Case(correlated, incidents("joined") + joined)

    yield Case(list(_alerts(count, run, "ingested", status="firing")), [])
    for name, fields in (
        ("AcknowledgeAlert", {}),
        ("SilenceAlert", {"until": format_rfc3339(NOW + timedelta(hours=1))}),
    ):
        firing = list(_alerts(count, run, name, status="firing"))
        yield Case(each(name, [alert.aggregate_id for alert in firing], actor="ann", **fields), firing)
    silenced = list(_alerts(count, run, "unsilenced", status="firing"))
    ids = [alert.aggregate_id for alert in silenced]
    silence = each("SilenceAlert", ids, until=format_rfc3339(NOW + timedelta(hours=1)), actor="ann")
    yield Case(each("UnsilenceAlert", ids, actor="ann"), silenced + silence)

    yield from _runbook_cases(some, each)

    check = {"source": "probe", "timestamp": format_rfc3339(NOW), "status": "healthy"}
    refs = [f"prod-eu/payments/app-{run}-{number}" for number in range(count)]
    checks = [Ask("RecordHealthCheck", str(uid("healthcheck", TENANT, ref, "probe")), {"resource_ref": ref, **check}) for ref in refs]
    yield Case(checks, [])
    counts = dict.fromkeys(("healthy_count", "degraded_count", "progressing_count", "unknown_count", "out_of_sync_count"), 0)
    fleets = [
        Ask(
            "RecordFleetState",
            str(uid("fleetstate", TENANT, "production", cluster)),
            {"environment_id": "production", "cluster_id": cluster, "timestamp": format_rfc3339(NOW), "total_applications": 0, **counts},
        )
        for cluster in (f"cluster-{run}-{number}" for number in range(count))
    ]
    yield Case(fleets, [])


INCIDENT: dict[str, Any] = {
    "title": "Checkout is down",
    "severity": "high",
    "source": "manual",
    "affected_resources": ["prod-eu/payments/checkout"],
    "actor": "ann",
}
DEFINITION: dict[str, Any] = {
    "name": "Checkout availability",
    "target": "99",
    "window": "30d",
    "sli_spec": {"good": "status < 500", "total": "all requests", "budgeting_method": "occurrences"},
    "owner": "team-checkout",
    "scope": "checkout",
    "actor": "ann",
}
RUNBOOK: dict[str, Any] = {
    "title": "Roll back the checkout",
    "steps": [{"step_id": "look", "title": "Look"}, {"step_id": "roll-back", "title": "Roll back", "action": "argocd/rollback"}],
    "automation_level": "assisted",
    "approval_required": True,
    "owner": "team-checkout",
    "actor": "ann",
}


def _slo_cases(count: int, run: str) -> Iterator[Case]:
    slos = [f"slo-{run}-{number}" for number in range(count)]
    few = slos[:100]
    windows = [
        Ask(REFERENCE, few[number % 100], {"start": format_rfc3339(MIDNIGHT + timedelta(minutes=number // 100)), **WINDOW})
        for number in range(count)
    ]
    create = [Ask("CreateSLO", slo, DEFINITION) for slo in slos]
    yield Case(windows, create[:100])
    yield Case([Ask("CreateSLO", f"created-{slo}", DEFINITION) for slo in slos], [])
    updates = [Ask("UpdateSLO", f"updated-{few[number % 100]}", DEFINITION | {"name": f"Name {number}"}) for number in range(count)]
    yield Case(updates, [Ask("CreateSLO", f"updated-{slo}", DEFINITION) for slo in few])


WINDOW: dict[str, Any] = {"width_seconds": 60, "good": 99, "total": 100}


def _alerts(count: int, run: str, kind: str, status: str) -> Iterator[Ask]:
    for number in range(count):
        fingerprint = f"{kind}-{run}-{number}"
        fields = {
            "source": "custom",
            "fingerprint": fingerprint,
            "name": "HighErrorRate",
            "severity": "high",
            "status": status,
            "labels": {"alertname": "HighErrorRate", "service": "checkout", "pod": str(number)},
            "annotations": {"summary": "5 % of the requests fail"},
            "starts_at": format_rfc3339(NOW),
        }
        yield Ask("IngestAlert", str(uid("alert", TENANT, "custom", fingerprint)), fields)


def _runbook_cases(some: Any, each: Any) -> Iterator[Case]:  # noqa: ANN401 - the two functions of cases()
    """Executions are on a runbook each: one runbook has at most 50 at a time."""
    yield Case(each("CreateRunbook", some("runbook"), **RUNBOOK), [])
    ids = some("updated-runbook")
    yield Case(each("UpdateRunbook", ids, **RUNBOOK | {"title": "Another"}), each("CreateRunbook", ids, **RUNBOOK))
    ids = some("executed")
    yield Case(each("ExecuteRunbook", ids, actor="ann"), each("CreateRunbook", ids, **RUNBOOK))
    for name, fields in (
        ("ApproveRunbookExecution", {"actor": "ben"}),
        ("RejectRunbookExecution", {"actor": "ben"}),
        ("CancelRunbookExecution", {"actor": "ann"}),
        ("RecordRunbookExecutionResult", {"actor": "robot", "outcome": "succeeded"}),
    ):
        ids = some(name)
        before = each("CreateRunbook", ids, **RUNBOOK) + each("ExecuteRunbook", ids, actor="ann")
        executions = {one: str(uid("fact", TENANT, "runbook", one, "2")) for one in ids}
        if name == "RecordRunbookExecutionResult":
            before += [Ask("ApproveRunbookExecution", one, {"execution_id": executions[one], "actor": "ben"}) for one in ids]
        yield Case([Ask(name, one, {"execution_id": executions[one], **fields}) for one in ids], before)
    ids = some("expired")
    overdue = each("ExecuteRunbook", ids, actor="ann", approve_within_seconds=60)
    yield Case(each("ExpireRunbookExecutions", ids), each("CreateRunbook", ids, **RUNBOOK) + overdue)
