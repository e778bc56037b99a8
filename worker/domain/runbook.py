"""Runbook: steps that people wrote down, and every execution of them. The domain records; others execute.

Reads as the runbook chapter of docs/contract.md does: commands, facts, state, check(), decide(), evolve(); one execution's part of
each is in runbook_execution.py.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import WrapValidator

from worker.domain import runbook_execution
from worker.domain.fields import (
    KNOWN_FIELDS_ONLY,
    AtMost,
    Boolean,
    DistinctAtMost,
    Int64,
    Line64,
    Line200,
    Line500,
    Listed,
    Slug,
    Text10000,
    slug,
)
from worker.domain.outcome import NO_CHANGE, Context, NoChange
from worker.domain.rejection import Rejection, RejectionCode, refuse_fields, refuse_other_version
from worker.domain.runbook_execution import (
    ApproveRunbookExecution,
    CancelRunbookExecution,
    ExecuteRunbook,
    Execution,
    ExpireRunbookExecutions,
    OnExecution,
    RecordRunbookExecutionResult,
    RejectRunbookExecution,
    RunbookExecutionApproved,
    RunbookExecutionCompleted,
    RunbookExecutionRejected,
    RunbookExecutionRequested,
    RunbookExecutionStarted,
)

MAX_UNFINISHED: Final = 50

check_id = slug  # a runbook's id is chosen by its creator


@dataclass(frozen=True, slots=True, kw_only=True)
class RunbookStep:
    """What is to be done; `action` is the automation that does it, if one does."""

    __pydantic_config__ = KNOWN_FIELDS_ONLY

    step_id: Slug
    title: Line200
    instruction: Text10000 = ""
    action: Line200 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """Everything about a runbook that people write; the conditions say when it applies and are not evaluated here."""

    __pydantic_config__ = KNOWN_FIELDS_ONLY

    title: Line200
    description: Text10000 = ""
    trigger_conditions: Annotated[tuple[Line500, ...], WrapValidator(AtMost(50))] = ()
    steps: Annotated[tuple[RunbookStep, ...], WrapValidator(AtMost(100))] = ()
    automation_level: Listed
    approval_required: Boolean
    owner: Line200
    tags: Annotated[tuple[Line64, ...], WrapValidator(DistinctAtMost(50))] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRunbook(Definition):
    actor: Line200


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateRunbook(Definition):
    """`definition_version` guards the text without being disturbed by executions, which move `version` too."""

    actor: Line200
    definition_version: Int64 | None = None
    expected_version: Int64 | None = None


Command = (
    CreateRunbook
    | UpdateRunbook
    | ExecuteRunbook
    | ApproveRunbookExecution
    | RejectRunbookExecution
    | CancelRunbookExecution
    | RecordRunbookExecutionResult
    | ExpireRunbookExecutions
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunbookCreated(Definition):
    actor: Line200


@dataclass(frozen=True, slots=True, kw_only=True)
class RunbookUpdated(Definition):
    actor: Line200


Fact = (
    RunbookCreated
    | RunbookUpdated
    | RunbookExecutionRequested
    | RunbookExecutionApproved
    | RunbookExecutionRejected
    | RunbookExecutionStarted
    | RunbookExecutionCompleted
)
Outcome = tuple[Fact, ...] | NoChange | Rejection


@dataclass(frozen=True, slots=True)
class Runbook:
    """The row, and its executions by id: of the finished ones a batch may hold only those that its commands name."""

    version: int
    created_at: datetime
    updated_at: datetime
    definition: Definition
    definition_version: int
    executions: Mapping[str, Execution]


def check(command: Command, context: Context) -> Rejection | None:  # noqa: ARG001 - what every aggregate's check() is given
    """The rules that need nothing stored, in the contract's order; None where all hold."""
    match command:
        case CreateRunbook() | UpdateRunbook():
            return _check_definition(command)
        case RecordRunbookExecutionResult():
            return _refuse_repeated("step_results", (result.step_id for result in command.step_results))
        case _:
            return None


def _check_definition(definition: Definition) -> Rejection | None:
    if not definition.steps:
        return refuse_fields(RejectionCode.STEPS_EMPTY, {"steps": "must have one step or more"})
    repeated = _refuse_repeated("steps", (step.step_id for step in definition.steps))
    if repeated is not None:
        return repeated
    faults = _level_faults(definition)
    return refuse_fields(RejectionCode.AUTOMATION_LEVEL_INVALID, faults) if faults else None


def _refuse_repeated(name: str, step_ids: Iterable[str]) -> Rejection | None:
    first: dict[str, int] = {}
    faults = {
        f"{name}[{place}].step_id": f"must not repeat that of {name}[{first[step_id]}]"
        for place, step_id in enumerate(step_ids)
        if first.setdefault(step_id, place) != place
    }
    return refuse_fields(RejectionCode.STEP_ID_DUPLICATE, faults) if faults else None


def _level_faults(definition: Definition) -> dict[str, str]:
    actions = {f"steps[{place}].action": step.action for place, step in enumerate(definition.steps)}
    match definition.automation_level:
        case "manual":
            return {name: "must be null where the level is manual" for name, action in actions.items() if action is not None}
        case "assisted":
            return {} if any(actions.values()) else {"automation_level": "must be manual where no step has an action"}
        case "automated":
            return {name: "must be given where the level is automated" for name, action in actions.items() if action is None}
        case _:
            return {"automation_level": "must be manual, assisted or automated"}


def decide(runbook: Runbook | None, command: Command, context: Context) -> Outcome:
    """What a command that passed check() comes to. Facts are in the order in which they take versions."""
    if isinstance(command, CreateRunbook):
        if runbook is not None:
            return Rejection(RejectionCode.RUNBOOK_ALREADY_EXISTS, f"runbook {context.aggregate_id} exists")
        return (RunbookCreated(**_definition_fields(command), actor=command.actor),)
    if runbook is None:
        return Rejection(RejectionCode.RUNBOOK_NOT_FOUND, f"there is no runbook {context.aggregate_id}")
    if conflict := refuse_other_version(command.expected_version, runbook.version):
        return conflict
    match command:
        case UpdateRunbook():
            return _refuse_other_definition(runbook, command) or _update(runbook, command)
        case ExecuteRunbook():
            return _refuse_other_definition(runbook, command) or _execute(runbook, command, context)
        case ExpireRunbookExecutions():
            return runbook_execution.expire(runbook.executions.values(), context.time) or NO_CHANGE
        case _:
            execution = runbook.executions.get(command.execution_id)
            if execution is None:
                return Rejection(RejectionCode.EXECUTION_NOT_FOUND, f"there is no execution {command.execution_id} of this runbook")
            return runbook_execution.decide(execution, command, context)


def _refuse_other_definition(runbook: Runbook, command: UpdateRunbook | ExecuteRunbook) -> Rejection | None:
    if command.definition_version is None or command.definition_version == runbook.definition_version:
        return None
    fault = f"must be the version of the stored definition, {runbook.definition_version}"
    return refuse_fields(RejectionCode.VERSION_CONFLICT, {"definition_version": fault})


def _update(runbook: Runbook, command: UpdateRunbook) -> Outcome:
    fields = _definition_fields(command)
    return NO_CHANGE if Definition(**fields) == runbook.definition else (RunbookUpdated(**fields, actor=command.actor),)


def _execute(runbook: Runbook, command: ExecuteRunbook, context: Context) -> Outcome:
    if sum(execution.unfinished for execution in runbook.executions.values()) >= MAX_UNFINISHED:
        return Rejection(RejectionCode.LIMIT_EXCEEDED, f"{MAX_UNFINISHED} executions of this runbook are unfinished")
    approval_required = runbook.definition.approval_required
    requested = runbook_execution.request(command, runbook.definition_version, approval_required=approval_required, context=context)
    if approval_required:
        return (requested,)
    execution = runbook_execution.begin(requested, runbook_execution.requested_id(context, runbook.version + 1))
    return (requested, runbook_execution.start(execution, context))


def _definition_fields(definition: Definition) -> dict[str, Any]:
    return {name: getattr(definition, name) for name in Definition.__dataclass_fields__}


def evolve(runbook: Runbook | None, fact: Fact, context: Context) -> Runbook:
    """The state after a fact. Folding all facts of a runbook gives its row and all its executions."""
    if isinstance(fact, RunbookCreated):
        return Runbook(1, context.time, context.time, Definition(**_definition_fields(fact)), 1, {})
    if runbook is None:
        raise ValueError(f"{type(fact).__name__} on a runbook that was never created")
    version, updated_at = runbook.version + 1, max(runbook.updated_at, context.time)
    if isinstance(fact, RunbookUpdated):
        definition = Definition(**_definition_fields(fact))
        return replace(runbook, version=version, updated_at=updated_at, definition=definition, definition_version=version)
    if isinstance(fact, RunbookExecutionRequested):
        execution = runbook_execution.begin(fact, runbook_execution.requested_id(context, version))
    else:
        execution = runbook_execution.evolve(runbook.executions[fact.execution_id], fact)
    executions = {**runbook.executions, execution.execution_id: execution}
    return replace(runbook, version=version, updated_at=updated_at, executions=executions)


def executions_named(commands: Iterable[Command]) -> set[str]:
    """The ids of the executions that these commands ask something of."""
    return {command.execution_id for command in commands if isinstance(command, OnExecution)}
