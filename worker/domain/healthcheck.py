"""HealthCheck: the latest assessment of one resource by one source; each accepted check is the next version.

Reads as the HealthCheck chapter of docs/contract.md does: commands, facts, state, check(), decide(), evolve().
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Strict, WrapValidator

from worker.domain.argocd_health import DEGRADED, HEALTHY, READINGS, UNHEALTHY, UNKNOWN
from worker.domain.fields import (
    KNOWN_FIELDS_ONLY,
    AtMost,
    Line100,
    Listed,
    OneOf,
    String,
    Text200,
    Text2000,
    Timestamp,
    format_rfc3339,
    is_ref,
    uuid,
)
from worker.domain.ids import uid
from worker.domain.outcome import CLOCK_TOLERANCE, NO_CHANGE, Context, NoChange
from worker.domain.rejection import Rejection, RejectionCode, refuse_fields

MAX_CONDITIONS: Final = 50
ARGOCD: Final = "argocd"
SOURCES: Final = (ARGOCD, "probe", "agent")
STATUSES: Final = (HEALTHY, DEGRADED, UNHEALTHY, UNKNOWN)

check_id = uuid  # which one follows from the resource and the source


def healthcheck_id(tenant_id: str, resource_ref: str, source: str) -> str:
    """Two producers of the same check meet in one aggregate."""
    return str(uid("healthcheck", tenant_id, resource_ref, source))


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCondition:
    """One thing that the source found to hold, not to hold, or could not tell."""

    __pydantic_config__ = KNOWN_FIELDS_ONLY

    type: Line100
    status: Annotated[str, Strict(), AfterValidator(OneOf(("true", "false", "unknown")))]
    reason: Text200 = ""
    message: Text2000 = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """How a source found a resource at `timestamp`; `raw_status` is the source's own word."""

    __pydantic_config__ = KNOWN_FIELDS_ONLY

    resource_ref: String
    source: Listed
    timestamp: Timestamp
    status: Listed
    raw_status: Line100 | None = None
    conditions: Annotated[tuple[HealthCondition, ...], WrapValidator(AtMost(MAX_CONDITIONS))] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordHealthCheck(Assessment):
    pass


Command = RecordHealthCheck


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheckRecorded(Assessment):
    previous_status: Listed | None = None


Fact = HealthCheckRecorded
Outcome = tuple[Fact, ...] | NoChange | Rejection


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """The row."""

    version: int
    created_at: datetime
    updated_at: datetime
    latest: Assessment


def check(command: Command, context: Context) -> Rejection | None:
    """The rules that need nothing stored, in the contract's order; None where all hold."""
    if not is_ref(command.resource_ref):
        fault = "must be cluster[/namespace[/app[/pod]]], at most 512 characters"
        return refuse_fields(RejectionCode.RESOURCE_REF_INVALID, {"resource_ref": fault})
    if command.source not in SOURCES:
        return refuse_fields(RejectionCode.HEALTH_SOURCE_INVALID, {"source": "must be argocd, probe or agent"})
    faults = _status_faults(command)
    if faults:
        return refuse_fields(RejectionCode.HEALTH_STATUS_INVALID, faults)
    if command.timestamp > context.time + CLOCK_TOLERANCE:
        return refuse_fields(RejectionCode.TIMESTAMP_IN_FUTURE, {"timestamp": "must lie at most 5 minutes after ce_time"})
    if context.aggregate_id != healthcheck_id(context.tenant_id, command.resource_ref, command.source):
        return refuse_fields(RejectionCode.SCHEMA_INVALID, {"ce_subject": "must be the id of this tenant, resource_ref and source"})
    return None


def _status_faults(command: Command) -> dict[str, str]:
    if command.status not in STATUSES:
        return {"status": "must be healthy, degraded, unhealthy or unknown"}
    if command.source != ARGOCD:
        return {}
    reading = None if command.raw_status is None else READINGS.get(command.raw_status)
    if reading is None:
        return {"raw_status": f"must be Argo CD's word: {', '.join(READINGS)}"}
    return {} if command.status == reading.status else {"status": f"must be {reading.status} where Argo CD says {command.raw_status}"}


def decide(healthcheck: HealthCheck | None, command: Command, _: Context) -> Outcome:
    """What a command that passed check() comes to."""
    if healthcheck is None:
        return (HealthCheckRecorded(**_assessment_fields(command)),)
    stored = healthcheck.latest
    if Assessment(**_assessment_fields(command)) == stored:
        return NO_CHANGE
    if command.timestamp <= stored.timestamp:
        fault = f"must be later than that of the stored check, {format_rfc3339(stored.timestamp)}"
        return refuse_fields(RejectionCode.HEALTH_STALE, {"timestamp": fault})
    return (HealthCheckRecorded(**_assessment_fields(command), previous_status=stored.status),)


def _assessment_fields(assessment: Assessment) -> dict[str, Any]:
    return {name: getattr(assessment, name) for name in Assessment.__dataclass_fields__}


def evolve(healthcheck: HealthCheck | None, fact: Fact, context: Context) -> HealthCheck:
    """The state after a fact. Folding all facts of a check gives its row."""
    latest = Assessment(**_assessment_fields(fact))
    if healthcheck is None:
        return HealthCheck(1, context.time, context.time, latest)
    return HealthCheck(healthcheck.version + 1, healthcheck.created_at, max(healthcheck.updated_at, context.time), latest)
