"""A runbook and its executions: each rule of the contract by its code, one life from request to end, and the laws of any history."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.runbooks import HOUR, NOON, RUNBOOK_ID, STEPS, ask, create, requested, update
from worker.domain.aggregate import RUNBOOK, intent_name
from worker.domain.outcome import NO_CHANGE, Context
from worker.domain.parsing import parse_command
from worker.domain.rejection import Rejection
from worker.domain.runbook import (
    MAX_UNFINISHED,
    Command,
    Fact,
    Outcome,
    Runbook,
    RunbookCreated,
    RunbookStep,
    RunbookUpdated,
    check,
    decide,
    evolve,
    executions_named,
)
from worker.domain.runbook_execution import (
    ApproveRunbookExecution,
    CancelRunbookExecution,
    ExecuteRunbook,
    Execution,
    ExpireRunbookExecutions,
    RecordRunbookExecutionResult,
    RejectRunbookExecution,
    RunbookExecutionApproved,
    RunbookExecutionCompleted,
    RunbookExecutionRejected,
    RunbookExecutionRequested,
    RunbookExecutionStarted,
    StepResult,
)

SECOND = timedelta(seconds=1)
NOWHERE = "00000000-0000-4000-8000-000000000000"
INCIDENT = "5f8d2c1e-6b1d-4f0f-8c64-0b8f6a3d2e10"
BY_HAND = RunbookStep(step_id="look", title="Look")
AUTOMATIC = RunbookStep(step_id="restart", title="Restart", action="kubectl rollout restart")
RESULT = StepResult(step_id="look", status="succeeded")
FINAL = {"rejected", "expired", "cancelled", "succeeded", "failed", "timed_out"}
EDGES = {("pending_approval", to) for to in ("running", "rejected", "expired", "cancelled")} | {
    ("running", to) for to in ("cancelled", "succeeded", "failed", "timed_out")
}


def at(time: datetime = NOON) -> Context:
    return Context("acme", RUNBOOK_ID, time)


def run(runbook: Runbook | None, command: Command, time: datetime = NOON) -> tuple[Runbook | None, Outcome]:
    refused = check(command, at(time))
    outcome: Outcome = refused if refused is not None else decide(runbook, command, at(time))
    if isinstance(outcome, tuple):
        return reduce(lambda state, fact: evolve(state, fact, at(time)), outcome, runbook), outcome
    return runbook, outcome


def after(*commands: Command) -> Runbook:
    """The runbook after these, none of which was refused."""
    runbook: Runbook | None = None
    for command in commands:
        runbook, outcome = run(runbook, command)
        assert isinstance(outcome, tuple), outcome
    assert runbook is not None
    return runbook


def names(outcome: Outcome) -> list[str]:
    return [type(fact).__name__ for fact in outcome] if isinstance(outcome, tuple) else []


def code(outcome: Outcome) -> str:
    assert isinstance(outcome, Rejection), outcome
    return outcome.code


def fields_of(outcome: Outcome) -> set[str]:
    assert isinstance(outcome, Rejection), outcome
    return {violation.field for violation in outcome.violations}


def approve(version: int, **changes: Any) -> ApproveRunbookExecution:  # noqa: ANN401
    return ApproveRunbookExecution(**{"execution_id": requested(version), "actor": "bob"} | changes)


def reject(version: int, **changes: Any) -> RejectRunbookExecution:  # noqa: ANN401
    return RejectRunbookExecution(**{"execution_id": requested(version), "actor": "bob"} | changes)


def cancel(version: int, **changes: Any) -> CancelRunbookExecution:  # noqa: ANN401
    return CancelRunbookExecution(**{"execution_id": requested(version), "actor": "ann"} | changes)


def result(version: int, **changes: Any) -> RecordRunbookExecutionResult:  # noqa: ANN401
    return RecordRunbookExecutionResult(**{"execution_id": requested(version), "outcome": "succeeded", "actor": "robot"} | changes)


# --- Definition


def test_a_runbook_is_created_and_updated_whole() -> None:
    runbook, outcome = run(None, create())
    assert isinstance(outcome, tuple)
    (created,) = outcome
    assert isinstance(created, RunbookCreated)
    assert (created.title, created.steps, created.tags, created.actor) == ("Restart checkout", STEPS, ("payments",), "ann")
    assert runbook == Runbook(1, NOON, NOON, create_definition(), 1, {})
    runbook, outcome = run(runbook, update(title="Restart it"), NOON - HOUR)
    assert isinstance(outcome, tuple)
    assert isinstance(outcome[0], RunbookUpdated)
    assert runbook is not None
    assert (runbook.version, runbook.definition_version, runbook.definition.title) == (2, 2, "Restart it")
    assert (runbook.created_at, runbook.updated_at) == (NOON, NOON), "the greatest ce_time so far"


def create_definition() -> Any:  # noqa: ANN401
    return after(create()).definition


@pytest.mark.parametrize(
    ("changes", "expected", "fields"),
    [
        ({"steps": ()}, "STEPS_EMPTY", {"steps"}),
        ({"steps": (BY_HAND, AUTOMATIC, BY_HAND, BY_HAND)}, "STEP_ID_DUPLICATE", {"steps[2].step_id", "steps[3].step_id"}),
        ({"automation_level": "magic"}, "AUTOMATION_LEVEL_INVALID", {"automation_level"}),
        ({"automation_level": ""}, "AUTOMATION_LEVEL_INVALID", {"automation_level"}),
        ({"automation_level": "manual", "steps": (BY_HAND, AUTOMATIC)}, "AUTOMATION_LEVEL_INVALID", {"steps[1].action"}),
        ({"automation_level": "assisted", "steps": (BY_HAND,)}, "AUTOMATION_LEVEL_INVALID", {"automation_level"}),
        ({"automation_level": "automated", "steps": (BY_HAND, AUTOMATIC)}, "AUTOMATION_LEVEL_INVALID", {"steps[0].action"}),
    ],
)
def test_rules_of_a_definition_that_need_nothing_stored(changes: dict[str, object], expected: str, fields: set[str]) -> None:
    runbook = after(create())
    for outcome in (run(None, create(**changes))[1], run(runbook, update(**changes))[1], run(None, update(**changes))[1]):
        assert code(outcome) == expected
        assert fields_of(outcome) == fields


def test_the_first_rule_that_fails_decides() -> None:
    assert code(run(None, create(steps=(), automation_level="magic"))[1]) == "STEPS_EMPTY"
    assert code(run(None, create(steps=(BY_HAND, BY_HAND), automation_level="magic"))[1]) == "STEP_ID_DUPLICATE"


@pytest.mark.parametrize(
    ("level", "steps"),
    [
        ("manual", (BY_HAND,)),
        ("assisted", (BY_HAND, AUTOMATIC)),
        ("assisted", (AUTOMATIC,)),
        ("automated", (AUTOMATIC,)),
    ],
)
def test_a_level_that_fits_the_steps_is_taken(level: str, steps: tuple[RunbookStep, ...]) -> None:
    assert names(run(None, create(automation_level=level, steps=steps))[1]) == ["RunbookCreated"]


def test_an_id_in_use_is_refused_and_an_unknown_one_not_found() -> None:
    assert code(run(after(create()), create())[1]) == "RUNBOOK_ALREADY_EXISTS"
    commands: list[Command] = [update(), ask(), approve(2), reject(2), cancel(2), result(2), ExpireRunbookExecutions()]
    for command in commands:
        assert code(run(None, command)[1]) == "RUNBOOK_NOT_FOUND"


def test_a_stale_version_is_a_conflict_ahead_of_every_later_rule() -> None:
    runbook = after(create(), ask())
    commands: list[Command] = [update(), ask(), approve(9), reject(9), cancel(9), result(9), ExpireRunbookExecutions()]
    for command in commands:
        outcome = run(runbook, replace(command, expected_version=1))[1]  # type: ignore[arg-type]
        assert code(outcome) == "VERSION_CONFLICT"
        assert fields_of(outcome) == {"expected_version"}
    assert names(run(runbook, ask(expected_version=2))[1]) == ["RunbookExecutionRequested"]


@pytest.mark.parametrize("make", [lambda **changes: update(title="Other", **changes), ask])
def test_the_definition_version_guards_the_text_and_not_the_executions(make: Any) -> None:  # noqa: ANN401
    runbook = after(create(), ask(), update(title="Newer"), ask())
    assert (runbook.version, runbook.definition_version) == (4, 3)
    outcome = run(runbook, make(definition_version=4))[1]
    assert code(outcome) == "VERSION_CONFLICT"
    assert fields_of(outcome) == {"definition_version"}
    assert fields_of(run(runbook, make(definition_version=1, expected_version=1))[1]) == {"expected_version"}
    assert len(names(run(runbook, make(definition_version=3))[1])) == 1


def test_an_equal_definition_changes_nothing_after_all_checks_passed() -> None:
    runbook = after(create(), ask())
    assert run(runbook, update(actor="somebody else"))[1] == NO_CHANGE
    assert code(run(runbook, update(definition_version=2))[1]) == "VERSION_CONFLICT"
    assert names(run(runbook, update(steps=STEPS[::-1]))[1]) == ["RunbookUpdated"], "lists are equal in their order only"


# --- Executions


def test_an_execution_that_needs_approval_waits_for_it_then_runs_and_ends() -> None:
    command = ask(parameters={"replicas": "3"}, incident_id=INCIDENT, reason="latency", approve_within_seconds=60, run_within_seconds=90)
    runbook, outcome = run(after(create()), command)
    assert outcome == (
        RunbookExecutionRequested(
            definition_version=1,
            approval_required=True,
            approval_deadline=NOON + 60 * SECOND,
            run_within_seconds=90,
            parameters={"replicas": "3"},
            incident_id=INCIDENT,
            reason="latency",
            actor="ann",
        ),
    )
    waiting = Execution(
        execution_id=requested(2),
        definition_version=1,
        status="pending_approval",
        requested_by="ann",
        parameters={"replicas": "3"},
        incident_id=INCIDENT,
        reason="latency",
        approval_deadline=NOON + 60 * SECOND,
        run_within_seconds=90,
        run_deadline=None,
        decided_by=None,
        outcome=None,
        step_results=(),
        summary="",
    )
    assert runbook is not None
    assert runbook.executions == {requested(2): waiting}

    runbook, outcome = run(runbook, update(title="Newer"))
    runbook, outcome = run(runbook, approve(2, note="go"), NOON + 60 * SECOND)
    assert outcome == (
        RunbookExecutionApproved(execution_id=requested(2), note="go", actor="bob"),
        RunbookExecutionStarted(execution_id=requested(2), definition_version=1, run_deadline=NOON + 150 * SECOND),
    )
    running = replace(waiting, status="running", decided_by="bob", run_deadline=NOON + 150 * SECOND)
    assert runbook is not None
    assert runbook.executions == {requested(2): running}

    runbook, outcome = run(runbook, result(2, outcome="failed", step_results=(RESULT,), summary="no"), NOON + HOUR)
    assert outcome == (
        RunbookExecutionCompleted(
            execution_id=requested(2),
            definition_version=1,
            outcome="failed",
            step_results=(RESULT,),
            summary="no",
            reason="",
            actor="robot",
        ),
    )
    assert runbook is not None
    ended = replace(running, status="failed", outcome="failed", step_results=(RESULT,), summary="no")
    assert runbook.executions == {requested(2): ended}
    assert (runbook.version, runbook.definition_version, runbook.updated_at) == (6, 3, NOON + HOUR)


def test_an_execution_without_approval_starts_at_once_under_the_id_of_its_request() -> None:
    runbook, outcome = run(after(create(approval_required=False)), ask())
    assert isinstance(outcome, tuple)
    wanted, started = outcome
    assert isinstance(wanted, RunbookExecutionRequested)
    assert (wanted.approval_required, wanted.approval_deadline, wanted.run_within_seconds) == (False, None, 86_400)
    assert started == RunbookExecutionStarted(execution_id=requested(2), definition_version=1, run_deadline=NOON + 24 * HOUR)
    assert runbook is not None
    (execution,) = runbook.executions.values()
    assert (execution.status, execution.approval_deadline, execution.decided_by) == ("running", None, None)
    assert runbook.version == 3


def test_approval_is_required_by_the_definition_of_now() -> None:
    runbook = after(create(approval_required=False), update(approval_required=True), ask(definition_version=2))
    assert [execution.status for execution in runbook.executions.values()] == ["pending_approval"]
    assert [execution.definition_version for execution in runbook.executions.values()] == [2]


def test_the_time_for_approval_is_a_week_unless_it_is_named() -> None:
    (execution,) = after(create(), ask()).executions.values()
    assert execution.approval_deadline == NOON + timedelta(days=7)


def test_a_rejection_ends_an_execution_and_keeps_its_reasons_apart() -> None:
    runbook, outcome = run(after(create(), ask(reason="latency")), reject(2, reason="not now"))
    assert outcome == (
        RunbookExecutionRejected(execution_id=requested(2), reason="not now", actor="bob"),
        RunbookExecutionCompleted(execution_id=requested(2), definition_version=1, outcome="rejected", reason="not now", actor="bob"),
    )
    assert runbook is not None
    (execution,) = runbook.executions.values()
    assert (execution.status, execution.outcome, execution.decided_by, execution.reason) == ("rejected", "rejected", "bob", "latency")


@pytest.mark.parametrize("approved", [False, True])
def test_anybody_cancels_an_unfinished_execution(approved: bool) -> None:  # noqa: FBT001
    before = after(create(), ask(), *([approve(2)] if approved else []))
    runbook, outcome = run(before, cancel(2, reason="solved"))
    assert outcome == (
        RunbookExecutionCompleted(execution_id=requested(2), definition_version=1, outcome="cancelled", reason="solved", actor="ann"),
    )
    assert runbook is not None
    assert runbook.executions[requested(2)].decided_by == ("bob" if approved else None)


@pytest.mark.parametrize("make", [approve, reject])
def test_who_may_approve_or_reject_and_until_when(make: Any) -> None:  # noqa: ANN401
    runbook = after(create(), ask(approve_within_seconds=60))
    late = NOON + 60 * SECOND + timedelta(microseconds=1)
    assert code(run(runbook, make(2, actor="ann"))[1]) == "APPROVER_IS_REQUESTER"
    assert code(run(runbook, make(2, actor="ann"), late)[1]) == "APPROVER_IS_REQUESTER", "who asks comes before when"
    assert code(run(runbook, make(2), late)[1]) == "APPROVAL_EXPIRED"
    assert len(names(run(runbook, make(2), NOON + 60 * SECOND)[1])) == 2, "the deadline itself is in time"
    running = after(create(), ask(), approve(2))
    assert code(run(running, make(2))[1]) == "INVALID_TRANSITION"
    assert code(run(running, make(2, actor="ann"))[1]) == "INVALID_TRANSITION"


@pytest.mark.parametrize("make", [approve, reject, cancel, result])
@pytest.mark.parametrize("end", [cancel, reject])
def test_what_ended_stays_ended_and_what_never_was_is_not_found(make: Any, end: Any) -> None:  # noqa: ANN401
    runbook = after(create(), ask(), end(2))
    assert code(run(runbook, make(2))[1]) == "EXECUTION_TERMINAL"
    assert code(run(runbook, make(2, execution_id=NOWHERE))[1]) == "EXECUTION_NOT_FOUND"


def test_a_result_needs_an_execution_that_runs() -> None:
    assert code(run(after(create(), ask()), result(2))[1]) == "APPROVAL_REQUIRED"


def test_a_result_names_no_step_twice() -> None:
    other = StepResult(step_id="restart", status="skipped")
    outcome = run(None, result(2, step_results=(RESULT, other, RESULT)))[1]
    assert code(outcome) == "STEP_ID_DUPLICATE", "ahead of all that needs stored state"
    assert fields_of(outcome) == {"step_results[2].step_id"}


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "timed_out"])
def test_a_result_after_the_deadline_is_taken_until_the_execution_was_expired(outcome: str) -> None:
    runbook = after(create(approval_required=False), ask())
    later = NOON + 48 * HOUR
    ended = run(runbook, result(2, outcome=outcome), later)[0]
    assert ended is not None
    assert ended.executions[requested(2)].status == outcome
    expired = run(runbook, ExpireRunbookExecutions(), later)[0]
    assert code(run(expired, result(2, outcome=outcome), later)[1]) == "EXECUTION_TERMINAL"


def test_expiry_ends_what_is_overdue_by_ascending_id_and_nothing_else() -> None:
    runbook: Runbook | None = after(create())
    for seconds in (60, 120, 60, 60, 60):
        runbook, _ = run(runbook, ask(approve_within_seconds=seconds, run_within_seconds=seconds))
    runbook, _ = run(runbook, approve(2))
    runbook, _ = run(runbook, cancel(4))
    assert run(runbook, ExpireRunbookExecutions(), NOON + 60 * SECOND)[1] == NO_CHANGE, "the deadline itself is in time"
    runbook, outcome = run(runbook, ExpireRunbookExecutions(), NOON + 61 * SECOND)
    ends = {requested(2): "timed_out", requested(5): "expired", requested(6): "expired"}
    assert list(ends) != sorted(ends), "or the order of the requests would do"
    assert outcome == tuple(
        RunbookExecutionCompleted(execution_id=name, definition_version=1, outcome=ends[name], reason="", actor=None)
        for name in sorted(ends)
    )
    assert run(runbook, ExpireRunbookExecutions(), NOON + 61 * SECOND)[1] == NO_CHANGE
    assert runbook is not None
    assert [runbook.executions[requested(version)].status for version in (2, 3, 4, 5, 6)] == [
        "timed_out",
        "pending_approval",
        "cancelled",
        "expired",
        "expired",
    ]


def test_fifty_executions_may_be_unfinished() -> None:
    runbook = after(create(), *[ask()] * 50)
    assert MAX_UNFINISHED == 50
    assert code(run(runbook, ask())[1]) == "LIMIT_EXCEEDED"
    assert code(run(runbook, ask(definition_version=7))[1]) == "VERSION_CONFLICT"
    ended = run(runbook, cancel(9))[0]
    assert names(run(ended, ask())[1]) == ["RunbookExecutionRequested"]


# --- Shapes and sizes


def parsed(command: object, **changes: object) -> object:
    return parse_command(RUNBOOK, intent_name(type(command)), asdict(command) | changes, RUNBOOK_ID)  # type: ignore[call-overload]


@pytest.mark.parametrize("name", ["approve_within_seconds", "run_within_seconds"])
@pytest.mark.parametrize(("seconds", "fits"), [(59, False), (60, True), (2_592_000, True), (2_592_001, False)])
def test_times_allowed_lie_between_a_minute_and_thirty_days(name: str, seconds: int, fits: bool) -> None:  # noqa: FBT001
    command = parsed(ask(), **{name: seconds})
    if fits:
        assert command == ask(**{name: seconds})
    else:
        assert isinstance(command, Rejection)
        assert (command.code, command.violations[0].field) == ("SCHEMA_INVALID", name)


@pytest.mark.parametrize(
    ("command", "changes", "expected", "field"),
    [
        (create(), {"title": " "}, "SCHEMA_INVALID", "title"),
        (create(), {"title": "x" * 201}, "LIMIT_EXCEEDED", "title"),
        (create(), {"trigger_conditions": ["x"] * 51}, "LIMIT_EXCEEDED", "trigger_conditions"),
        (create(), {"steps": [{"step_id": "Look", "title": "t"}]}, "SCHEMA_INVALID", "steps[0].step_id"),
        (create(), {"steps": [{"step_id": "look", "title": "t", "action": ""}]}, "SCHEMA_INVALID", "steps[0].action"),
        (create(), {"steps": [{"step_id": f"s{i}", "title": "t"} for i in range(101)]}, "LIMIT_EXCEEDED", "steps"),
        (create(), {"tags": [str(i) for i in range(51)]}, "LIMIT_EXCEEDED", "tags"),
        (create(), {"tags": ["x" * 65]}, "LIMIT_EXCEEDED", "tags[0]"),
        (create(), {"approval_required": 1}, "SCHEMA_INVALID", "approval_required"),
        (create(), {"automation_level": "a\0b"}, "SCHEMA_INVALID", "automation_level"),
        (ask(), {"incident_id": INCIDENT.upper()}, "SCHEMA_INVALID", "incident_id"),
        (ask(), {"parameters": {str(i): "" for i in range(51)}}, "LIMIT_EXCEEDED", "parameters"),
        (ask(), {"parameters": {"": "x"}}, "LIMIT_EXCEEDED", "parameters"),
        (approve(2), {"execution_id": "2"}, "SCHEMA_INVALID", "execution_id"),
        (result(2), {"outcome": "cancelled"}, "SCHEMA_INVALID", "outcome"),
        (result(2), {"step_results": [{"step_id": "look", "status": "fine"}]}, "SCHEMA_INVALID", "step_results[0].status"),
        (result(2), {"step_results": [{"step_id": f"s{i}", "status": "failed"} for i in range(101)]}, "LIMIT_EXCEEDED", "step_results"),
        (result(2), {"summary": "x" * 2001}, "LIMIT_EXCEEDED", "summary"),
    ],
)
def test_wrong_shapes_and_sizes_are_refused_by_field(command: object, changes: dict[str, object], expected: str, field: str) -> None:
    outcome = parsed(command, **changes)
    assert isinstance(outcome, Rejection)
    assert (outcome.code, [violation.field for violation in outcome.violations]) == (expected, [field])


def test_a_set_drops_duplicates_and_keeps_the_first() -> None:
    assert parsed(create(), tags=["b", "a", "b"]) == create(tags=("b", "a"))


# --- Laws

ACTORS = st.sampled_from(["ann", "bob", "eve"])
VERSIONS = st.integers(2, 14)  # few, so that most name an execution
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(
        lambda steps, needed: update(steps=steps, approval_required=needed),
        st.sampled_from([STEPS, STEPS[::-1]]),
        st.booleans(),
    ),
    st.builds(
        lambda who, wait, run: ask(actor=who, approve_within_seconds=wait, run_within_seconds=run), ACTORS, *[st.integers(60, 600)] * 2
    ),
    st.builds(lambda version, who: approve(version, actor=who), VERSIONS, ACTORS),
    st.builds(lambda version, who: reject(version, actor=who, reason="no"), VERSIONS, ACTORS),
    st.builds(lambda version, who: cancel(version, actor=who), VERSIONS, ACTORS),
    st.builds(lambda version, how: result(version, outcome=how), VERSIONS, st.sampled_from(["succeeded", "failed", "timed_out"])),
    st.builds(ExpireRunbookExecutions),
)
MOMENTS = st.integers(0, 900).map(lambda seconds: datetime(2026, 3, 2, 12, tzinfo=UTC) + seconds * SECOND)
HISTORIES = st.lists(st.tuples(COMMANDS, MOMENTS), max_size=30)


def seen_by(runbook: Runbook, commands: list[Command]) -> Runbook:
    """The runbook as a batch sees it: with the unfinished executions, and of the others those that it names."""
    named = executions_named(commands)
    kept = {name: execution for name, execution in runbook.executions.items() if execution.unfinished or name in named}
    return replace(runbook, executions=kept)


@settings(max_examples=300)
@given(HISTORIES, st.booleans(), st.data())
def test_batches_that_see_only_what_they_need_decide_as_if_they_saw_all(
    history: list[tuple[Command, datetime]],
    needed: bool,  # noqa: FBT001
    data: st.DataObject,
) -> None:
    whole = in_batches = after(create(approval_required=needed))
    while history:
        size = data.draw(st.integers(1, len(history)))
        batch, history = history[:size], history[size:]
        runbook: Runbook | None = seen_by(in_batches, [command for command, _ in batch])
        for command, time in batch:
            expected = run(whole, command, time)
            runbook, outcome = run(runbook, command, time)
            assert outcome == expected[1]
            assert expected[0] is not None
            whole = expected[0]
        assert runbook is not None
        in_batches = replace(runbook, executions={**in_batches.executions, **runbook.executions})
        assert in_batches == whole


@settings(max_examples=300)
@given(HISTORIES, st.booleans())
def test_folding_the_facts_gives_the_state_and_no_execution_leaves_its_path(
    history: list[tuple[Command, datetime]],
    needed: bool,  # noqa: FBT001
) -> None:
    runbook, outcome = run(None, create(approval_required=needed))
    facts: list[tuple[Fact, datetime]] = [(fact, NOON) for fact in outcome] if isinstance(outcome, tuple) else []
    for command, time in history:
        before = runbook
        runbook, outcome = run(runbook, command, time)
        facts += [(fact, time) for fact in outcome] if isinstance(outcome, tuple) else []
        assert before is not None
        assert runbook is not None
        for name, execution in runbook.executions.items():
            was = before.executions.get(name)
            if was is None:
                assert execution.status in ("pending_approval", "running")
            elif was.status != execution.status:
                assert (was.status, execution.status) in EDGES
            assert (execution.outcome is None) == (execution.status not in FINAL)
            assert execution.outcome in (None, execution.status)
            assert execution.decided_by != execution.requested_by
            assert (execution.status == "pending_approval") <= (execution.approval_deadline is not None)
            assert (execution.status == "running") <= (execution.run_deadline is not None)
    folded = reduce(lambda state, item: evolve(state, item[0], at(item[1])), facts, None)
    assert folded == runbook
    assert runbook is not None
    assert runbook.version == len(facts)
    assert_each_execution_is_told_once([fact for fact, _ in facts], runbook)


def assert_each_execution_is_told_once(facts: list[Fact], runbook: Runbook) -> None:
    asked = [requested(version) for version, fact in enumerate(facts, start=1) if isinstance(fact, RunbookExecutionRequested)]
    started = [fact.execution_id for fact in facts if isinstance(fact, RunbookExecutionStarted)]
    completed = [fact.execution_id for fact in facts if isinstance(fact, RunbookExecutionCompleted)]
    assert sorted(asked) == sorted(runbook.executions)
    assert len(set(started)) == len(started)
    assert len(set(completed)) == len(completed)
    assert {*started, *completed} <= set(asked)
    assert set(completed) == {name for name, execution in runbook.executions.items() if execution.status in FINAL}


@given(HISTORIES)
def test_a_command_on_an_execution_that_was_taken_is_not_taken_twice(history: list[tuple[Command, datetime]]) -> None:
    runbook: Runbook | None = after(create())
    for command, time in history:
        runbook, outcome = run(runbook, command, time)
        if isinstance(outcome, tuple) and not isinstance(command, ExecuteRunbook):
            again, second = run(runbook, command, time)
            assert not isinstance(second, tuple)
            assert again is runbook
