"""FleetState: the snapshots of one cluster's applications in one environment. The version counts them, the row is the current one.

Reads as the FleetState chapter of docs/contract.md does: commands, facts, state, check(), decide(), evolve().
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import Field, Strict

from worker.domain.fields import KNOWN_FIELDS_ONLY, Name, Timestamp, format_rfc3339, uuid
from worker.domain.ids import uid
from worker.domain.outcome import CLOCK_TOLERANCE, NO_CHANGE, Context, NoChange
from worker.domain.rejection import Rejection, RejectionCode, refuse_fields

MAX_APPLICATIONS: Final = 10**12
HEALTH_COUNTS: Final = ("healthy_count", "degraded_count", "progressing_count", "unknown_count")
COUNTS: Final = ("total_applications", *HEALTH_COUNTS, "out_of_sync_count")

Count = Annotated[int, Strict(), Field(ge=-(2**63), le=MAX_APPLICATIONS)]  # one below 0 has a code of its own

check_id = uuid  # which one follows from the environment and the cluster


def stream_id(tenant_id: str, environment_id: str, cluster_id: str) -> str:
    """The aggregate's id; each of its snapshots has another one, `fleetstate_id`."""
    return str(uid("fleetstate", tenant_id, environment_id, cluster_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Absolute counts at `timestamp`: the total split by health into four, and how many of it are out of sync."""

    __pydantic_config__ = KNOWN_FIELDS_ONLY

    environment_id: Name
    cluster_id: Name
    timestamp: Timestamp
    total_applications: Count
    healthy_count: Count
    degraded_count: Count
    progressing_count: Count
    unknown_count: Count
    out_of_sync_count: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFleetState(Snapshot):
    pass


Command = RecordFleetState


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetStateRecorded(Snapshot):
    pass


Fact = FleetStateRecorded
Outcome = tuple[Fact, ...] | NoChange | Rejection


@dataclass(frozen=True, slots=True)
class FleetState:
    """The row; `fleetstate_id` names the current snapshot."""

    version: int
    created_at: datetime
    updated_at: datetime
    fleetstate_id: UUID
    current: Snapshot


def check(command: Command, context: Context) -> Rejection | None:
    """The rules that need nothing stored, in the contract's order; None where all hold."""
    negative = [name for name in COUNTS if getattr(command, name) < 0]
    if negative:
        return refuse_fields(RejectionCode.FLEET_COUNT_NEGATIVE, dict.fromkeys(negative, "must not be negative"))
    faults = _sum_faults(command)
    if faults:
        return refuse_fields(RejectionCode.FLEET_COUNTS_MISMATCH, faults)
    if command.timestamp > context.time + CLOCK_TOLERANCE:
        return refuse_fields(RejectionCode.TIMESTAMP_IN_FUTURE, {"timestamp": "must lie at most 5 minutes after ce_time"})
    if context.aggregate_id != stream_id(context.tenant_id, command.environment_id, command.cluster_id):
        return refuse_fields(RejectionCode.SCHEMA_INVALID, {"ce_subject": "must be the id of this tenant, environment_id and cluster_id"})
    return None


def _sum_faults(command: Command) -> dict[str, str]:
    faults: dict[str, str] = {}
    counted = sum(getattr(command, name) for name in HEALTH_COUNTS)
    if counted != command.total_applications:
        faults["total_applications"] = f"must be the sum of the four counts by health, {counted}"
    if command.out_of_sync_count > command.total_applications:
        faults["out_of_sync_count"] = "must not exceed total_applications"
    return faults


def decide(fleet: FleetState | None, command: Command, _: Context) -> Outcome:
    """What a command that passed check() comes to."""
    recorded = (FleetStateRecorded(**_snapshot_fields(command)),)
    if fleet is None:
        return recorded
    if Snapshot(**_snapshot_fields(command)) == fleet.current:
        return NO_CHANGE
    if command.timestamp <= fleet.current.timestamp:
        fault = f"must be later than that of the stored snapshot, {format_rfc3339(fleet.current.timestamp)}"
        return refuse_fields(RejectionCode.FLEET_STALE, {"timestamp": fault})
    return recorded


def _snapshot_fields(snapshot: Snapshot) -> dict[str, Any]:
    return {name: getattr(snapshot, name) for name in Snapshot.__dataclass_fields__}


def evolve(fleet: FleetState | None, fact: Fact, context: Context) -> FleetState:
    """The state after a fact. Folding all facts of a stream gives its row."""
    version = 1 if fleet is None else fleet.version + 1
    return FleetState(
        version,
        context.time if fleet is None else fleet.created_at,
        context.time if fleet is None else max(fleet.updated_at, context.time),
        uid("fact", context.tenant_id, "fleetstate", context.aggregate_id, str(version)),  # the fact's ce_id
        Snapshot(**_snapshot_fields(fact)),
    )
