"""One SLO through its life (the contract's example a to o), and the laws that hold for any history."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import reduce
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.domain.error_budget import NOTHING
from worker.domain.outcome import NO_CHANGE, Context
from worker.domain.rejection import Rejection, RejectionCode
from worker.domain.slo import (
    EXHAUSTED,
    NO_DATA,
    SLO,
    Command,
    CreateSLO,
    Fact,
    Outcome,
    RecordSLIWindow,
    SliSpec,
    SLIWindowRecorded,
    SLOBudgetExhausted,
    SLOBudgetRecovered,
    SLOCreated,
    SLOUpdated,
    UpdateSLO,
    check,
    decide,
    evolve,
    hours_needed,
)

T0 = datetime(2026, 3, 2, tzinfo=UTC)
LATER = T0 + timedelta(days=60)
MINUTE = timedelta(minutes=1)
CONTEXT = Context("acme", "checkout-availability", LATER)
SPEC = SliSpec(good="status < 500", total="all requests", budgeting_method="occurrences")
DEFINITION = {
    "name": "Checkout availability",
    "description": "",
    "target": Decimal(99),
    "window": "7d",
    "sli_spec": SPEC,
    "owner": "team-checkout",
    "scope": "checkout",
    "actor": "ann",
}


def create(**changes: object) -> CreateSLO:
    return CreateSLO(**{**DEFINITION, **changes})  # type: ignore[arg-type]


def update(**changes: object) -> UpdateSLO:
    return UpdateSLO(**{**DEFINITION, **changes})  # type: ignore[arg-type]


def window(start: datetime, width: int, good: int, total: int, revision: int = 0, expected_version: int | None = None) -> RecordSLIWindow:
    return RecordSLIWindow(start=start, width_seconds=width, good=good, total=total, revision=revision, expected_version=expected_version)


def run(slo: SLO | None, command: Command, context: Context = CONTEXT) -> tuple[SLO | None, Outcome]:
    """One intent from check to state, as the pipeline does it."""
    outcome: Outcome = check(command, context) or decide(slo, command, context)
    if isinstance(outcome, tuple):
        return reduce(lambda state, fact: evolve(state, fact, context), outcome, slo), outcome
    return slo, outcome


def names(outcome: Outcome) -> list[str]:
    return [type(fact).__name__ for fact in outcome] if isinstance(outcome, tuple) else []


def code(outcome: Outcome) -> str:
    assert isinstance(outcome, Rejection), outcome
    return outcome.code


def test_one_slo_through_its_life() -> None:
    slo, outcome = run(None, create())
    assert names(outcome) == ["SLOCreated"]
    recorded, exhausted, recovered, updated = SLIWindowRecorded, SLOBudgetExhausted, SLOBudgetRecovered, SLOUpdated
    week = timedelta(days=7)
    story: list[tuple[str, Command, list[type] | str | None, int, str]] = [
        ("a", window(T0, 300, 985, 1000), [recorded, exhausted], 3, "-50.000000"),
        ("b", window(T0, 300, 985, 1000), None, 3, "-50.000000"),
        ("b", window(T0, 300, 990, 1000), "SLI_WINDOW_CONFLICT", 3, "-50.000000"),
        ("c", window(T0, 300, 995, 1000, revision=1), [recorded, recovered], 5, "50.000000"),
        ("c", window(T0, 300, 985, 1000), None, 5, "50.000000"),
        ("d", window(T0 + 5 * MINUTE, 60, 480, 500), [recorded, exhausted], 7, "-66.666666"),
        ("e", window(T0 + 5 * MINUTE, 300, 1, 1), "SLI_WINDOW_OVERLAP", 7, "-66.666666"),
        ("f", window(T0 + 10 * MINUTE, 60, 1000, 1000), [recorded], 8, "0.000000"),
        ("g", window(T0 + week, 60, 1000, 1000), [recorded, recovered], 10, "20.000000"),
        ("h", update(target=Decimal("99.5")), [updated, exhausted], 12, "-60.000000"),
        ("i", window(T0, 60, 1, 1), "SLI_WINDOW_EXPIRED", 12, "-60.000000"),
        ("j", window(T0 + 2 * MINUTE, 60, 250, 250), "SLI_WINDOW_OVERLAP", 12, "-60.000000"),
        ("k", update(target=Decimal("99.5"), window="30d"), [updated], 13, "-42.857142"),
        (
            "l",
            update(target=Decimal("99.5"), window="30d", sli_spec=replace(SPEC, good="status < 400")),
            [updated, recovered],
            15,
            "100.000000",
        ),
        ("m", window(T0 + week, 60, 1, 1), "SLI_WINDOW_EXPIRED", 15, "100.000000"),
        ("n", window(T0 + week + MINUTE, 60, 0, 0), [recorded], 16, "100.000000"),
        ("o", window(T0 + week + 2 * MINUTE, 60, 199, 200), [recorded, exhausted], 18, "0.000000"),
    ]
    for step, command, expected, version, remaining in story:
        slo, outcome = run(slo, command)
        assert slo is not None
        match expected:
            case None:
                assert outcome == NO_CHANGE, step
            case str():
                assert code(outcome) == expected, step
            case _:
                assert names(outcome) == [fact.__name__ for fact in expected], step
        assert (slo.version, slo.budget.current_budget_remaining) == (version, Decimal(remaining)), step
        assert slo.budget.budget_consumed == 100 - Decimal(remaining), step


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (create(target=Decimal(0)), "SLO_TARGET_OUT_OF_RANGE"),
        (create(target=Decimal(100)), "SLO_TARGET_OUT_OF_RANGE"),
        (create(window="14d"), "SLO_WINDOW_UNSUPPORTED"),
        (create(sli_spec=replace(SPEC, good=" ")), "SLI_SPEC_INVALID"),
        (create(sli_spec=replace(SPEC, total="")), "SLI_SPEC_INVALID"),
        (create(sli_spec=replace(SPEC, budgeting_method="guess")), "SLI_SPEC_INVALID"),
        (create(sli_spec=replace(SPEC, slice_seconds=60)), "SLI_SPEC_INVALID"),
        (create(sli_spec=replace(SPEC, slice_target=Decimal(99))), "SLI_SPEC_INVALID"),
        (create(sli_spec=replace(SPEC, budgeting_method="timeslices", slice_seconds=60)), "SLI_SPEC_INVALID"),
        (create(sli_spec=replace(SPEC, budgeting_method="timeslices", slice_target=Decimal(99))), "SLI_SPEC_INVALID"),
        (create(sli_spec=replace(SPEC, budgeting_method="ratio_timeslices", slice_seconds=90)), "SLI_SPEC_INVALID"),
        (window(T0, 90, 1, 1), "SLI_WINDOW_MISALIGNED"),
        (window(T0 + timedelta(seconds=30), 60, 1, 1), "SLI_WINDOW_MISALIGNED"),
        (window(T0 + MINUTE, 300, 1, 1), "SLI_WINDOW_MISALIGNED"),
        (window(datetime(1969, 12, 31, 23, 59, tzinfo=UTC), 60, 1, 1), "SLI_WINDOW_MISALIGNED"),
        (window(T0, 60, 2, 1), "SLI_COUNTS_INVALID"),
        (window(T0, 60, -1, 1), "SLI_COUNTS_INVALID"),
        (window(T0, 60, 1, 10**12 + 1), "SLI_COUNTS_INVALID"),
        (window(LATER + 5 * MINUTE, 60, 1, 1), "TIMESTAMP_IN_FUTURE"),
        (window(datetime(9999, 12, 31, 23, 59, tzinfo=UTC), 60, 1, 1), "TIMESTAMP_IN_FUTURE"),
    ],
)
def test_rules_that_need_nothing_stored(command: Command, expected: str) -> None:
    outcome = check(command, CONTEXT)
    assert outcome is not None
    assert outcome.code == expected
    assert outcome.violations


def test_a_window_may_end_five_minutes_after_the_intent_was_asked() -> None:
    assert check(window(LATER + 4 * MINUTE, 60, 1, 1), CONTEXT) is None


def test_every_field_of_the_deciding_code_is_named() -> None:
    outcome = check(create(sli_spec=SliSpec(budgeting_method="timeslices")), CONTEXT)
    assert outcome is not None
    fields = {violation.field for violation in outcome.violations}
    assert fields == {"sli_spec.good", "sli_spec.total", "sli_spec.slice_seconds", "sli_spec.slice_target"}


def test_rules_that_need_the_stored_slo() -> None:
    slo, _ = run(None, create())
    assert code(run(slo, create())[1]) == "SLO_ALREADY_EXISTS"
    assert code(run(None, update())[1]) == "SLO_NOT_FOUND"
    assert code(run(None, window(T0, 60, 1, 1))[1]) == "SLO_NOT_FOUND"
    assert code(run(slo, window(T0, 60, 1, 1, expected_version=2))[1]) == "VERSION_CONFLICT"
    assert names(run(slo, window(T0, 60, 1, 1, expected_version=1))[1]) == ["SLIWindowRecorded"]
    assert run(slo, update(target=Decimal("99.000000"), actor="bob"))[1] == NO_CHANGE


def test_a_slice_method_takes_windows_of_its_own_width_only() -> None:
    spec = replace(SPEC, budgeting_method="ratio_timeslices", slice_seconds=300)
    slo, _ = run(None, create(sli_spec=spec))
    assert code(run(slo, window(T0, 60, 1, 1))[1]) == "SLI_WINDOW_MISALIGNED"
    assert names(run(slo, window(T0, 300, 1, 1))[1]) == ["SLIWindowRecorded"]


def test_a_restart_without_data_leaves_measured_from_null() -> None:
    slo, _ = run(None, create())
    slo, outcome = run(slo, update(sli_spec=replace(SPEC, total="some")))
    assert slo is not None
    assert isinstance(outcome, tuple)
    assert isinstance(outcome[0], SLOUpdated)
    assert outcome[0].budget_restarted
    assert slo.measured_from is None


# --- Laws

SPECS = st.sampled_from(
    [
        SPEC,
        SliSpec(good="g", total="t", budgeting_method="timeslices", slice_seconds=60, slice_target=Decimal("99.5")),
        SliSpec(good="g", total="t", budgeting_method="timeslices", slice_seconds=300, slice_target=Decimal(95)),
        SliSpec(good="g", total="t", budgeting_method="ratio_timeslices", slice_seconds=60),
    ]
)
# Close together, so that windows collide, and with leaps, so that hours roll out and are dropped.
MINUTES = st.one_of(st.integers(0, 130), st.integers(0, 9 * 1440), st.integers(0, 45 * 1440))
COUNTS = st.integers(0, 1000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))
WINDOWS = st.builds(
    lambda minutes, width, counts, revision: window(T0 + minutes * MINUTE, width, counts[0], counts[1], revision),
    MINUTES,
    st.sampled_from([60, 300]),
    COUNTS,
    st.integers(0, 2),
)
UPDATES = st.builds(
    lambda target, length, spec: update(target=target, window=length, sli_spec=spec),
    st.sampled_from([Decimal(99), Decimal("99.9"), Decimal(50)]),
    st.sampled_from(["7d", "28d", "30d"]),
    SPECS,
)
HISTORIES = st.lists(st.one_of(WINDOWS, WINDOWS, WINDOWS, UPDATES), max_size=40)


def loaded(slo: SLO | None, commands: list[Command]) -> SLO | None:
    """The SLO as a batch sees it: with those hours of its ledger alone that it said it needs."""
    if slo is None:
        return None
    needed = hours_needed(slo, commands)
    return replace(slo, ledger={hour: stored for hour, stored in slo.ledger.items() if hour in needed})


def stored(before: SLO | None, seen: SLO | None, after: SLO | None) -> SLO | None:
    """What the database holds after a batch that saw some hours: those it left, and all it did not see."""
    if after is None or before is None or seen is None:
        return after
    untouched = {hour: stored for hour, stored in before.ledger.items() if hour not in seen.ledger}
    return replace(after, ledger={**untouched, **after.ledger})


@settings(max_examples=300)
@given(HISTORIES, st.data())
def test_batches_that_see_only_the_hours_they_need_decide_as_if_they_saw_all(history: list[Command], data: st.DataObject) -> None:
    whole, _ = run(None, create())
    in_batches = whole
    while history:
        size = data.draw(st.integers(1, len(history)))
        batch, history = history[:size], history[size:]
        seen = loaded(in_batches, batch)
        slo = seen
        for command in batch:
            whole, expected = run(whole, command)
            slo, outcome = run(slo, command)
            assert outcome == expected
        in_batches = stored(in_batches, seen, slo)
        assert in_batches == whole


@settings(max_examples=200)
@given(HISTORIES)
def test_folding_the_facts_gives_the_row_and_the_budget_is_that_of_the_ledger(history: list[Command]) -> None:
    slo, outcome = run(None, create())
    facts: list[Fact] = list(outcome) if isinstance(outcome, tuple) else []
    for command in history:
        slo, outcome = run(slo, command)
        facts += outcome if isinstance(outcome, tuple) else ()
    folded = reduce(lambda state, fact: evolve(state, fact, CONTEXT), facts, None)
    assert folded == slo
    assert slo is not None
    assert slo.version == len(facts)
    assert_counted_from_scratch(slo)
    crossings = [type(fact) for fact in facts if isinstance(fact, SLOBudgetExhausted | SLOBudgetRecovered)]
    assert crossings == [SLOBudgetExhausted, SLOBudgetRecovered] * (len(crossings) // 2) + [SLOBudgetExhausted] * (len(crossings) % 2)
    assert (slo.budget.budget_status == EXHAUSTED) == (len(crossings) % 2 == 1)


def assert_counted_from_scratch(slo: SLO) -> None:
    spec, oldest = slo.definition.sli_spec, slo.oldest_counted
    counted = NOTHING
    for hour, held in slo.ledger.items():
        sums = NOTHING
        for minute, entry in held.windows():
            measured = spec.measure(entry)
            sums = sums.plus(measured)
            if oldest is not None and hour + minute * MINUTE >= oldest:
                counted = counted.plus(measured)
        assert sums == held.sums
    assert counted == slo.counted
    assert (slo.budget.budget_status == NO_DATA) == (counted.total == 0)


@given(st.lists(st.tuples(st.integers(0, 7 * 1440 - 1), COUNTS), unique_by=lambda item: item[0], max_size=40), st.randoms(), SPECS)
def test_any_order_of_the_same_windows_gives_the_same_budget(
    counts: list[tuple[int, tuple[int, int]]], random: Random, spec: SliSpec
) -> None:
    """Within one length of the SLO's window, where no order makes a window expire."""
    spec = replace(spec, slice_seconds=None if spec.slice_seconds is None else 60)
    commands = [window(T0 + minute * MINUTE, 60, *pair) for minute, pair in counts]
    shuffled = random.sample(commands, len(commands))
    budgets = []
    for order in (commands, shuffled):
        slo, _ = run(None, create(sli_spec=spec))
        for command in order:
            slo, _ = run(slo, command)
        assert slo is not None
        budgets.append((slo.budget, slo.counted, slo.ledger))
    assert budgets[0] == budgets[1]


@given(HISTORIES)
def test_a_repeated_history_changes_nothing_where_windows_have_not_expired(history: list[Command]) -> None:
    slo, _ = run(None, create())
    for command in history:
        slo, outcome = run(slo, command)
        again, second = run(slo, command)
        if isinstance(outcome, tuple):
            assert second == NO_CHANGE or (isinstance(second, Rejection) and second.code == RejectionCode.SLI_WINDOW_EXPIRED)
        assert again == slo


def test_no_float_reaches_a_budget() -> None:
    slo, _ = run(None, create())
    slo, outcome = run(slo, window(T0, 60, 985, 1000))
    assert isinstance(outcome, tuple)
    fact = outcome[0]
    assert isinstance(fact, SLIWindowRecorded)
    assert isinstance(fact.budget.current_budget_remaining, Decimal)
    assert isinstance(SLOCreated(**DEFINITION).target, Decimal)  # type: ignore[arg-type]
