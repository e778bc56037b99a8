"""Execution: one run of a runbook, which others carry out: who asked for it and who approved, how it ended, and by when it must have.

Reads as the sections on executions of the runbook chapter of docs/contract.md do: commands, facts, state, decide(), evolve().
There is no clock here: a deadline passes when an intent says so.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Annotated, Final, assert_never

from pydantic import AfterValidator, Field, Strict, WrapValidator

from worker.domain.fields import (
    KNOWN_FIELDS_ONLY,
    AtMost,
    Boolean,
    Int32,
    Int64,
    Line200,
    Listed,
    Map,
    OneOf,
    Slug,
    Text2000,
    Timestamp,
    Uuid,
    format_rfc3339,
)
from worker.domain.ids import uid
from worker.domain.outcome import Context
from worker.domain.rejection import Rejection, RejectionCode

PENDING_APPROVAL: Final = "pending_approval"
RUNNING: Final = "running"
REJECTED: Final = "rejected"
EXPIRED: Final = "expired"
CANCELLED: Final = "cancelled"
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
TIMED_OUT: Final = "timed_out"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """How one step went, by the id that it has in the definition that was executed."""

    __pydantic_config__ = KNOWN_FIELDS_ONLY

    step_id: Slug
    status: Annotated[str, Strict(), AfterValidator(OneOf(("succeeded", "failed", "skipped")))]
    detail: Text2000 = ""


Parameters = Annotated[dict[str, str], AfterValidator(Map(50))]
StepResults = Annotated[tuple[StepResult, ...], WrapValidator(AtMost(100))]
WithinSeconds = Annotated[int, Strict(), Field(ge=60, le=2_592_000)]
ResultOutcome = Annotated[str, Strict(), AfterValidator(OneOf((SUCCEEDED, FAILED, TIMED_OUT)))]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecuteRunbook:
    """Asks others to run it; the incident is a reference and not looked up."""

    __pydantic_config__ = KNOWN_FIELDS_ONLY

    parameters: Parameters = field(default_factory=dict)
    incident_id: Uuid | None = None
    reason: Text2000 = ""
    approve_within_seconds: WithinSeconds = 604_800
    run_within_seconds: WithinSeconds = 86_400
    actor: Line200
    definition_version: Int64 | None = None
    expected_version: Int64 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproveRunbookExecution:
    """One approval is enough."""

    __pydantic_config__ = KNOWN_FIELDS_ONLY

    execution_id: Uuid
    note: Text2000 = ""
    actor: Line200
    expected_version: Int64 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectRunbookExecution:
    """Refuses what another asked for; the requester cancels instead."""

    __pydantic_config__ = KNOWN_FIELDS_ONLY

    execution_id: Uuid
    reason: Text2000 = ""
    actor: Line200
    expected_version: Int64 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRunbookExecution:
    __pydantic_config__ = KNOWN_FIELDS_ONLY

    execution_id: Uuid
    reason: Text2000 = ""
    actor: Line200
    expected_version: Int64 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRunbookExecutionResult:
    """What the executor reports. After the run deadline, but before an expiry was asked for, it still counts: it is the truth."""

    __pydantic_config__ = KNOWN_FIELDS_ONLY

    execution_id: Uuid
    outcome: ResultOutcome
    step_results: StepResults = ()
    summary: Text2000 = ""
    actor: Line200
    expected_version: Int64 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireRunbookExecutions:
    """Ends what is overdue at the intent's time."""

    __pydantic_config__ = KNOWN_FIELDS_ONLY

    expected_version: Int64 | None = None


OnExecution = ApproveRunbookExecution | RejectRunbookExecution | CancelRunbookExecution | RecordRunbookExecutionResult


@dataclass(frozen=True, slots=True, kw_only=True)
class RunbookExecutionRequested:
    """Its own ce_id is the id of the new execution."""

    definition_version: Int64
    approval_required: Boolean
    approval_deadline: Timestamp | None = None
    run_within_seconds: Int32
    parameters: Parameters = field(default_factory=dict)
    incident_id: Uuid | None = None
    reason: Text2000 = ""
    actor: Line200


@dataclass(frozen=True, slots=True, kw_only=True)
class RunbookExecutionApproved:
    execution_id: Uuid
    note: Text2000 = ""
    actor: Line200


@dataclass(frozen=True, slots=True, kw_only=True)
class RunbookExecutionRejected:
    execution_id: Uuid
    reason: Text2000 = ""
    actor: Line200


@dataclass(frozen=True, slots=True, kw_only=True)
class RunbookExecutionStarted:
    execution_id: Uuid
    definition_version: Int64
    run_deadline: Timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class RunbookExecutionCompleted:
    """`reason` is that of a rejection or cancellation; `actor` is None where a deadline passed."""

    execution_id: Uuid
    definition_version: Int64
    outcome: Listed
    step_results: StepResults = ()
    summary: Text2000 = ""
    reason: Text2000 = ""
    actor: Line200 | None = None


Progress = RunbookExecutionApproved | RunbookExecutionRejected | RunbookExecutionStarted | RunbookExecutionCompleted
ExecutionFact = RunbookExecutionRequested | Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """`definition_version` is the one that was asked for, whatever is updated later; `outcome` is the final status, None until then.

    The approval deadline is None where no approval was required, the run deadline until the execution runs.
    """

    execution_id: str
    definition_version: int
    status: str
    requested_by: str
    parameters: Mapping[str, str]
    incident_id: str | None
    reason: str
    approval_deadline: datetime | None
    run_within_seconds: int
    run_deadline: datetime | None = None
    decided_by: str | None = None
    outcome: str | None = None
    step_results: tuple[StepResult, ...] = ()
    summary: str = ""

    @property
    def unfinished(self) -> bool:
        return self.outcome is None


def requested_id(context: Context, version: int) -> str:
    """The id of the execution whose RunbookExecutionRequested takes this version of the runbook: the ce_id of that fact."""
    return str(uid("fact", context.tenant_id, "runbook", context.aggregate_id, str(version)))


def request(command: ExecuteRunbook, definition_version: int, *, approval_required: bool, context: Context) -> RunbookExecutionRequested:
    return RunbookExecutionRequested(
        definition_version=definition_version,
        approval_required=approval_required,
        approval_deadline=context.time + timedelta(seconds=command.approve_within_seconds) if approval_required else None,
        run_within_seconds=command.run_within_seconds,
        parameters=command.parameters,
        incident_id=command.incident_id,
        reason=command.reason,
        actor=command.actor,
    )


def start(execution: Execution, context: Context) -> RunbookExecutionStarted:
    return RunbookExecutionStarted(
        execution_id=execution.execution_id,
        definition_version=execution.definition_version,
        run_deadline=context.time + timedelta(seconds=execution.run_within_seconds),
    )


def decide(execution: Execution, command: OnExecution, context: Context) -> tuple[Progress, ...] | Rejection:
    """What a command on one execution comes to."""
    if not execution.unfinished:
        return Rejection(RejectionCode.EXECUTION_TERMINAL, f"execution {execution.execution_id} is {execution.status}")
    name, actor = execution.execution_id, command.actor
    match command:
        case CancelRunbookExecution(reason=reason):
            return (_complete(execution, CANCELLED, reason=reason, actor=actor),)
        case RecordRunbookExecutionResult(outcome=outcome, step_results=step_results, summary=summary):
            if execution.status != RUNNING:
                return Rejection(RejectionCode.APPROVAL_REQUIRED, f"execution {name} is {execution.status}")
            return (replace(_complete(execution, outcome, actor=actor), step_results=step_results, summary=summary),)
        case ApproveRunbookExecution(note=note):
            approved = RunbookExecutionApproved(execution_id=name, note=note, actor=actor)
            return _refuse_decision(execution, actor, context) or (approved, start(execution, context))
        case RejectRunbookExecution(reason=reason):
            rejected = RunbookExecutionRejected(execution_id=name, reason=reason, actor=actor)
            completed = _complete(execution, REJECTED, reason=reason, actor=actor)
            return _refuse_decision(execution, actor, context) or (rejected, completed)
        case _:
            assert_never(command)


def _refuse_decision(execution: Execution, actor: str, context: Context) -> Rejection | None:
    """Why this actor can't approve or reject now."""
    if execution.status != PENDING_APPROVAL:
        return Rejection(RejectionCode.INVALID_TRANSITION, f"execution {execution.execution_id} is {execution.status}")
    if actor == execution.requested_by:
        return Rejection(RejectionCode.APPROVER_IS_REQUESTER, "an execution is approved or rejected by another than its requester")
    if _is_past(execution.approval_deadline, context.time):
        deadline = "" if execution.approval_deadline is None else format_rfc3339(execution.approval_deadline)
        return Rejection(RejectionCode.APPROVAL_EXPIRED, f"the time for approval ended at {deadline}")
    return None


def expire(executions: Iterable[Execution], at: datetime) -> tuple[RunbookExecutionCompleted, ...]:
    """The end of those whose deadline has passed by then, by ascending id."""
    ends = [(execution, _overdue_outcome(execution, at)) for execution in sorted(executions, key=lambda each: each.execution_id)]
    return tuple(_complete(execution, outcome) for execution, outcome in ends if outcome is not None)


def _overdue_outcome(execution: Execution, at: datetime) -> str | None:
    if execution.status == PENDING_APPROVAL:
        return EXPIRED if _is_past(execution.approval_deadline, at) else None
    if execution.status == RUNNING:
        return TIMED_OUT if _is_past(execution.run_deadline, at) else None
    return None


def _is_past(deadline: datetime | None, at: datetime) -> bool:
    return deadline is not None and at > deadline  # at the deadline itself there is time


def _complete(execution: Execution, outcome: str, *, reason: str = "", actor: str | None = None) -> RunbookExecutionCompleted:
    return RunbookExecutionCompleted(
        execution_id=execution.execution_id,
        definition_version=execution.definition_version,
        outcome=outcome,
        reason=reason,
        actor=actor,
    )


def begin(fact: RunbookExecutionRequested, execution_id: str) -> Execution:
    """The new execution; where no approval is required, the next fact is that it runs."""
    return Execution(
        execution_id=execution_id,
        definition_version=fact.definition_version,
        status=PENDING_APPROVAL,
        requested_by=fact.actor,
        parameters=fact.parameters,
        incident_id=fact.incident_id,
        reason=fact.reason,
        approval_deadline=fact.approval_deadline,
        run_within_seconds=fact.run_within_seconds,
    )


def evolve(execution: Execution, fact: Progress) -> Execution:
    match fact:
        case RunbookExecutionApproved(actor=actor) | RunbookExecutionRejected(actor=actor):
            return replace(execution, decided_by=actor)
        case RunbookExecutionStarted(run_deadline=run_deadline):
            return replace(execution, status=RUNNING, run_deadline=run_deadline)
        case RunbookExecutionCompleted(outcome=outcome, step_results=step_results, summary=summary):
            return replace(execution, status=outcome, outcome=outcome, step_results=step_results, summary=summary)
        case _:
            assert_never(fact)
