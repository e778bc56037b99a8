"""Alert: what its source says of it, held against what was known, and what people make of it.

Reads as the alert chapter of docs/contract.md does: commands, facts, state, check(), decide(), evolve().
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from operator import attrgetter
from typing import Annotated, Any, Final, assert_never

from pydantic import AfterValidator

from worker.domain.alerts_correlated import AlertsCorrelatedToIncident
from worker.domain.fields import (
    EPOCH,
    KNOWN_FIELDS_ONLY,
    Int32,
    Int64,
    Line200,
    Listed,
    Map,
    OneOf,
    Severity,
    String,
    Text2000,
    Timestamp,
    blank,
    format_rfc3339,
    uuid,
)
from worker.domain.fingerprint import Fingerprint, fingerprint_of
from worker.domain.ids import uid
from worker.domain.outcome import CLOCK_TOLERANCE, NO_CHANGE, Context, NoChange
from worker.domain.rejection import Rejection, RejectionCode, refuse_fields, refuse_other_version

FIRING: Final = "firing"
RESOLVED: Final = "resolved"

PROMETHEUS: Final = "prometheus"
CUSTOM: Final = "custom"

check_id = uuid  # that it is the derived one is a rule of IngestAlert


def alert_id_of(tenant_id: str, source: str, fingerprint: str) -> str:
    return str(uid("alert", tenant_id, source, fingerprint))


def _without_empty(labels: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in labels.items() if value}


Source = Annotated[String, AfterValidator(OneOf((PROMETHEUS, CUSTOM)))]
Labels = Annotated[dict[String, String], AfterValidator(_without_empty), AfterValidator(Map(64))]
Annotations = Annotated[dict[String, String], AfterValidator(Map(64))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What the source says, but for the times; a label with an empty value is no label."""

    __pydantic_config__ = KNOWN_FIELDS_ONLY

    source: Source
    fingerprint: Fingerprint
    name: Line200
    severity: Severity
    status: Listed
    labels: Labels = field(default_factory=dict)
    annotations: Annotations = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestAlert(Description):
    """The whole alert as its source has it now; a time before 1970 is no time."""

    starts_at: Timestamp | None = None
    ends_at: Timestamp | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AcknowledgeAlert:
    __pydantic_config__ = KNOWN_FIELDS_ONLY

    note: Text2000 = ""
    actor: Line200
    expected_version: Int64 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceAlert:
    __pydantic_config__ = KNOWN_FIELDS_ONLY

    until: Timestamp
    reason: Text2000 = ""
    actor: Line200
    expected_version: Int64 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsilenceAlert:
    __pydantic_config__ = KNOWN_FIELDS_ONLY

    actor: Line200
    expected_version: Int64 | None = None


Command = IngestAlert | AcknowledgeAlert | SilenceAlert | UnsilenceAlert


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertIngested(Description):
    """The alert as it now stands, normalised; `ends_at` is None exactly while it fires."""

    starts_at: Timestamp
    ends_at: Timestamp | None = None
    previous_status: Listed | None = None
    episode: Int32


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertAcknowledged:
    note: Text2000 = ""
    actor: Line200


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertSilenced:
    until: Timestamp
    reason: Text2000 = ""
    actor: Line200


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertUnsilenced:
    actor: Line200


Fact = AlertIngested | AlertAcknowledged | AlertSilenced | AlertUnsilenced | AlertsCorrelatedToIncident
Outcome = tuple[AlertIngested | AlertAcknowledged | AlertSilenced | AlertUnsilenced, ...] | NoChange | Rejection


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert(Description):
    """The row. Acknowledgement and incident are those of this episode, a silence outlives it."""

    version: int
    created_at: datetime
    updated_at: datetime
    starts_at: datetime
    ends_at: datetime | None
    episode: int
    observed_at: datetime
    incident_id: str | None = None
    acknowledged_by: str | None = None
    acknowledged_at: datetime | None = None
    silenced_until: datetime | None = None
    silence_reason: str | None = None


def check(command: Command, context: Context) -> Rejection | None:
    """The rules that need nothing stored, in the contract's order; None where all hold."""
    match command:
        case IngestAlert():
            return _check_description(command) or _check_times(command, context) or _check_derived_id(command, context)
        case SilenceAlert(until=until):
            if until <= context.time:
                return refuse_fields(RejectionCode.ALERT_TIME_RANGE_INVALID, {"until": "must lie after ce_time"})
            return None
        case AcknowledgeAlert() | UnsilenceAlert():
            return None
        case _:
            assert_never(command)


def _check_description(command: IngestAlert) -> Rejection | None:
    if command.status not in (FIRING, RESOLVED):
        return refuse_fields(RejectionCode.ALERT_STATUS_INVALID, {"status": f"must be {FIRING} or {RESOLVED}"})
    if not command.labels:
        return refuse_fields(RejectionCode.ALERT_LABELS_EMPTY, {"labels": "must have one or more with a value"})
    if blank(command.fingerprint):
        return refuse_fields(RejectionCode.FINGERPRINT_REQUIRED, {"fingerprint": "must not be blank"})
    if command.source == PROMETHEUS and command.fingerprint != (recomputed := fingerprint_of(command.labels)):
        return refuse_fields(RejectionCode.FINGERPRINT_MISMATCH, {"fingerprint": f"must be that of the labels, {recomputed}"})
    return None


def _check_times(command: IngestAlert, context: Context) -> Rejection | None:
    starts_at = _instant(command.starts_at)
    ends_at = (_instant(command.ends_at) or context.time) if command.status == RESOLVED else None
    if starts_at is None:
        return refuse_fields(RejectionCode.ALERT_TIME_RANGE_INVALID, {"starts_at": "must be present, and not before 1970"})
    if ends_at is not None and starts_at > ends_at:
        fault = f"must not lie after the alert's end, {format_rfc3339(ends_at)}"
        return refuse_fields(RejectionCode.ALERT_TIME_RANGE_INVALID, {"starts_at": fault})
    latest = context.time + CLOCK_TOLERANCE
    faults = {
        name: "must be at most 5 minutes after ce_time"
        for name, time in (("starts_at", starts_at), ("ends_at", ends_at))
        if time is not None and time > latest
    }
    return refuse_fields(RejectionCode.TIMESTAMP_IN_FUTURE, faults) if faults else None


def _check_derived_id(command: IngestAlert, context: Context) -> Rejection | None:
    derived = alert_id_of(context.tenant_id, command.source, command.fingerprint)
    if context.aggregate_id == derived:
        return None
    return refuse_fields(RejectionCode.SCHEMA_INVALID, {"ce_subject": f"must follow from source and fingerprint: {derived}"})


def _instant(time: datetime | None) -> datetime | None:
    return None if time is None or time < EPOCH else time


def decide(alert: Alert | None, command: Command, context: Context) -> Outcome:
    """What a command that passed check() comes to."""
    if isinstance(command, IngestAlert):
        return _ingest(alert, command, context)
    if alert is None:
        return Rejection(RejectionCode.ALERT_NOT_FOUND, f"there is no alert {context.aggregate_id}")
    if conflict := refuse_other_version(command.expected_version, alert.version):
        return conflict
    match command:
        case AcknowledgeAlert():
            return _acknowledge(alert, command)
        case SilenceAlert(until=until, reason=reason):
            if (alert.silenced_until, alert.silence_reason) == (until, reason):
                return NO_CHANGE
            return (AlertSilenced(until=until, reason=reason, actor=command.actor),)
        case UnsilenceAlert():
            in_force = alert.silenced_until is not None and alert.silenced_until > context.time
            return (AlertUnsilenced(actor=command.actor),) if in_force else NO_CHANGE
        case _:
            assert_never(command)


def _acknowledge(alert: Alert, command: AcknowledgeAlert) -> Outcome:
    if alert.status != FIRING:
        return Rejection(RejectionCode.ALERT_NOT_FIRING, f"the alert is {alert.status}")
    if alert.acknowledged_at is not None:
        return Rejection(RejectionCode.ALREADY_ACKNOWLEDGED, f"{alert.acknowledged_by} acknowledged episode {alert.episode}")
    return (AlertAcknowledged(note=command.note, actor=command.actor),)


def _ingest(alert: Alert | None, command: IngestAlert, context: Context) -> Outcome:
    ingested = _normalise(alert, command, context)
    if alert is None:
        return (ingested,)
    if _COMPARED(ingested) == _COMPARED(alert):
        return NO_CHANGE
    stale = _staleness(alert, ingested, context.time)
    return (ingested,) if stale is None else Rejection(RejectionCode.ALERT_STALE, stale)


_COMPARED: Final = attrgetter("name", "severity", "status", "labels", "annotations", "starts_at", "ends_at")


def _normalise(alert: Alert | None, command: IngestAlert, context: Context) -> AlertIngested:
    starts_at = _instant(command.starts_at)
    if starts_at is None:
        raise ValueError("starts_at was not checked")
    ends_at = None
    if command.status == RESOLVED:
        ends_at = _instant(command.ends_at)
        if ends_at is None:
            known = None if alert is None else alert.ends_at
            ends_at = known if known is not None and known >= starts_at else context.time
    refires = alert is not None and alert.status == RESOLVED and command.status == FIRING
    return AlertIngested(
        **_description_fields(command),
        starts_at=starts_at,
        ends_at=ends_at,
        previous_status=None if alert is None else alert.status,
        episode=1 if alert is None else alert.episode + refires,
    )


def _staleness(alert: Alert, ingested: AlertIngested, time: datetime) -> str | None:
    """Why what comes in is older than what is stored; None where it is not."""
    if ingested.status == alert.status:
        return f"the alert was observed at {format_rfc3339(alert.observed_at)}, after ce_time" if time < alert.observed_at else None
    if ingested.ends_at is not None:
        ended_before = ingested.ends_at < alert.starts_at
        return f"this end is of an episode before the one that began at {format_rfc3339(alert.starts_at)}" if ended_before else None
    began_later = alert.ends_at is not None and ingested.starts_at > alert.ends_at
    if began_later or time > alert.observed_at:
        return None
    return f"the alert began before its end and was observed as resolved at {format_rfc3339(alert.observed_at)}, not before ce_time"


def _description_fields(description: Description) -> dict[str, Any]:
    return {name: getattr(description, name) for name in Description.__dataclass_fields__}


def evolve(alert: Alert | None, fact: Fact, context: Context) -> Alert:
    """The state after a fact. Folding all facts of an alert gives its row."""
    if isinstance(fact, AlertIngested):
        return _with_description(alert, fact, context.time)
    if alert is None:
        raise ValueError(f"{type(fact).__name__} on an alert that was never ingested")
    return replace(alert, version=alert.version + 1, updated_at=max(alert.updated_at, context.time), **_set_by(fact, context.time))


def _with_description(alert: Alert | None, fact: AlertIngested, time: datetime) -> Alert:
    stated = _description_fields(fact) | {"starts_at": fact.starts_at, "ends_at": fact.ends_at, "episode": fact.episode}
    if alert is None:
        return Alert(version=1, created_at=time, updated_at=time, observed_at=time, **stated)
    if fact.episode != alert.episode:
        stated |= {"acknowledged_by": None, "acknowledged_at": None, "incident_id": None}
    return replace(
        alert,
        version=alert.version + 1,
        updated_at=max(alert.updated_at, time),
        observed_at=max(alert.observed_at, time),
        **stated,
    )


def _set_by(fact: AlertAcknowledged | AlertSilenced | AlertUnsilenced | AlertsCorrelatedToIncident, time: datetime) -> Mapping[str, Any]:
    match fact:
        case AlertAcknowledged():
            return {"acknowledged_by": fact.actor, "acknowledged_at": time}
        case AlertSilenced():
            return {"silenced_until": fact.until, "silence_reason": fact.reason}
        case AlertUnsilenced():
            return {"silenced_until": None, "silence_reason": None}
        case AlertsCorrelatedToIncident():
            return {"incident_id": fact.incident_id}
        case _:
            assert_never(fact)
