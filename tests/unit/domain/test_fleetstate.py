"""Fleet states: each rule of the contract's chapter by its code, and the laws that hold for any history."""

from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.aggregate import FLEETSTATE
from worker.domain.fleetstate import (
    COUNTS,
    HEALTH_COUNTS,
    Fact,
    FleetState,
    FleetStateRecorded,
    Outcome,
    RecordFleetState,
    check,
    decide,
    evolve,
    stream_id,
)
from worker.domain.ids import uid
from worker.domain.outcome import NO_CHANGE, Context
from worker.domain.parsing import parse_command
from worker.domain.rejection import Rejection

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ID = stream_id("acme", "production", "prod-eu")
CONTEXT = Context("acme", ID, NOON)
MOST = 10**12


def record(healthy: int = 10, degraded: int = 2, progressing: int = 3, unknown: int = 1, **changes: object) -> RecordFleetState:
    fields = {
        "environment_id": "production",
        "cluster_id": "prod-eu",
        "timestamp": NOON,
        "total_applications": healthy + degraded + progressing + unknown,
        "healthy_count": healthy,
        "degraded_count": degraded,
        "progressing_count": progressing,
        "unknown_count": unknown,
        "out_of_sync_count": 4,
    }
    return RecordFleetState(**fields | changes)  # type: ignore[arg-type]


def run(fleet: FleetState | None, command: RecordFleetState, time: datetime = NOON) -> tuple[FleetState | None, Outcome]:
    context = replace(CONTEXT, time=time)
    outcome = check(command, context) or decide(fleet, command, context)
    if isinstance(outcome, tuple):
        for fact in outcome:
            fleet = evolve(fleet, fact, context)
    return fleet, outcome


def code(outcome: Outcome | None) -> str:
    assert isinstance(outcome, Rejection)
    return outcome.code


def violated(outcome: Outcome | None) -> list[str]:
    assert isinstance(outcome, Rejection)
    return [violation.field for violation in outcome.violations]


def test_the_id_follows_from_tenant_environment_and_cluster() -> None:
    assert ID == "4a174cf9-642d-53eb-88ec-d2f419d5b9b3"  # the contract's vector


# --- Check 8: shapes and sizes


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("environment_id", "", "SCHEMA_INVALID"),
        ("environment_id", "-production", "SCHEMA_INVALID"),
        ("environment_id", "prod/eu", "SCHEMA_INVALID"),
        ("environment_id", "p" * 129, "LIMIT_EXCEEDED"),
        ("cluster_id", "prod eu", "SCHEMA_INVALID"),
        ("cluster_id", "p" * 129, "LIMIT_EXCEEDED"),
        ("timestamp", -62_135_596_800_000_001, "SCHEMA_INVALID"),
        *((name, MOST + 1, "SCHEMA_INVALID") for name in COUNTS),
        *((name, None, "SCHEMA_INVALID") for name in COUNTS),
    ],
)
def test_a_field_of_the_wrong_shape_or_size_is_named(field: str, value: object, expected: str) -> None:
    outcome = parse_command(FLEETSTATE, "RecordFleetStateRequested", asdict(record()) | {field: value}, ID)
    assert (code(outcome), violated(outcome)) == (expected, [field])


@pytest.mark.parametrize("counts", [(MOST, 0, 0, 0), (0, 0, 0, 0), (1, MOST - 3, 1, 1)])
def test_counts_from_none_to_the_most_are_taken(counts: tuple[int, int, int, int]) -> None:
    command = record(*counts, out_of_sync_count=sum(counts), environment_id="p" * 128, cluster_id="c" * 128)
    assert parse_command(FLEETSTATE, "RecordFleetStateRequested", asdict(command), ID) == command
    assert check(command, replace(CONTEXT, aggregate_id=stream_id("acme", "p" * 128, "c" * 128))) is None


@pytest.mark.parametrize("subject", ["prod-eu", ID.upper()])
def test_a_subject_that_is_no_uuid_is_schema_invalid(subject: str) -> None:
    outcome = parse_command(FLEETSTATE, "RecordFleetStateRequested", asdict(record()), subject)
    assert (code(outcome), violated(outcome)) == ("SCHEMA_INVALID", ["ce_subject"])


# --- Check 9: rules that need nothing stored


@pytest.mark.parametrize(
    ("changes", "expected", "named"),
    [
        *(({name: -1}, "FLEET_COUNT_NEGATIVE", [name]) for name in COUNTS),
        ({"healthy_count": -1, "unknown_count": -(2**63)}, "FLEET_COUNT_NEGATIVE", ["healthy_count", "unknown_count"]),
        ({"total_applications": 15}, "FLEET_COUNTS_MISMATCH", ["total_applications"]),
        ({"total_applications": 17}, "FLEET_COUNTS_MISMATCH", ["total_applications"]),
        *(({name: 4}, "FLEET_COUNTS_MISMATCH", ["total_applications"]) for name in HEALTH_COUNTS),
        ({"out_of_sync_count": 17}, "FLEET_COUNTS_MISMATCH", ["out_of_sync_count"]),
        ({"total_applications": 3}, "FLEET_COUNTS_MISMATCH", ["total_applications", "out_of_sync_count"]),
        ({"timestamp": NOON + 5 * MINUTE + timedelta(microseconds=1)}, "TIMESTAMP_IN_FUTURE", ["timestamp"]),
        ({"timestamp": datetime(9999, 12, 31, 23, 59, tzinfo=UTC)}, "TIMESTAMP_IN_FUTURE", ["timestamp"]),
        ({"cluster_id": "prod-us"}, "SCHEMA_INVALID", ["ce_subject"]),
        ({"environment_id": "staging"}, "SCHEMA_INVALID", ["ce_subject"]),
    ],
)
def test_rules_that_need_nothing_stored(changes: dict[str, object], expected: str, named: list[str]) -> None:
    outcome = check(record(**changes), CONTEXT)  # type: ignore[arg-type]
    assert (code(outcome), violated(outcome)) == (expected, named)


def test_the_subject_is_that_of_the_tenant() -> None:
    assert code(check(record(), replace(CONTEXT, tenant_id="globex"))) == "SCHEMA_INVALID"


def test_a_snapshot_may_lie_five_minutes_after_the_intent_was_asked() -> None:
    assert check(record(timestamp=NOON + 5 * MINUTE), CONTEXT) is None


def test_all_may_be_out_of_sync() -> None:
    assert check(record(out_of_sync_count=16), CONTEXT) is None


def test_the_first_rule_that_fails_decides() -> None:
    wrong: list[tuple[str, dict[str, object]]] = [
        ("FLEET_COUNT_NEGATIVE", {"healthy_count": -1}),
        ("FLEET_COUNTS_MISMATCH", {"out_of_sync_count": 17}),
        ("TIMESTAMP_IN_FUTURE", {"timestamp": NOON + timedelta(days=1)}),
        ("SCHEMA_INVALID", {"cluster_id": "prod-us"}),
    ]
    for first in range(len(wrong)):
        changes = {name: value for _, change in wrong[first:] for name, value in change.items()}
        assert code(check(record(**changes), CONTEXT)) == wrong[first][0]  # type: ignore[arg-type]


# --- Check 10: rules that need the stored snapshot


def test_each_snapshot_is_the_next_version_under_an_id_of_its_own() -> None:
    fleet, outcome = run(None, record())
    assert outcome == (FleetStateRecorded(**asdict(record())),)
    assert fleet is not None
    assert (fleet.version, fleet.created_at, fleet.updated_at) == (1, NOON, NOON)
    assert fleet.fleetstate_id == uid("fact", "acme", "fleetstate", ID, "1")
    later = record(9, 3, timestamp=NOON + MINUTE)
    fleet, outcome = run(fleet, later, NOON - MINUTE)
    assert outcome == (FleetStateRecorded(**asdict(later)),)
    assert fleet is not None
    assert (fleet.version, fleet.created_at, fleet.updated_at) == (2, NOON, NOON)
    assert fleet.fleetstate_id == uid("fact", "acme", "fleetstate", ID, "2")
    assert asdict(fleet.current) == asdict(later)


def test_a_later_snapshot_with_the_same_counts_is_recorded() -> None:
    fleet, _ = run(None, record())
    assert isinstance(run(fleet, record(timestamp=NOON + MINUTE))[1], tuple)


def test_the_stored_snapshot_again_changes_nothing() -> None:
    fleet, _ = run(None, record())
    assert run(fleet, record(), NOON + MINUTE) == (fleet, NO_CHANGE)


@pytest.mark.parametrize(
    "changes",
    [
        {"healthy": 9, "degraded": 3},
        {"out_of_sync_count": 5},
        {"timestamp": NOON - timedelta(microseconds=1)},
        {"timestamp": NOON - timedelta(days=700)},
    ],
)
def test_a_snapshot_that_is_not_later_than_the_stored_one_is_stale(changes: dict[str, object]) -> None:
    fleet, _ = run(None, record())
    after, outcome = run(fleet, record(**changes))  # type: ignore[arg-type]
    assert (code(outcome), violated(outcome)) == ("FLEET_STALE", ["timestamp"])
    assert after is fleet


# --- Laws

COMMANDS = st.builds(
    lambda counts, beyond, out_of_sync, minutes: record(
        *counts, total_applications=sum(counts) + beyond, out_of_sync_count=out_of_sync, timestamp=NOON + minutes * MINUTE
    ),
    st.tuples(*[st.integers(-1, 5)] + [st.integers(0, 5)] * 3),
    st.sampled_from([0, 0, 0, 0, 1, -1]),
    st.integers(-1, 6),
    st.integers(-8, 8),
)
HISTORIES = st.lists(st.tuples(COMMANDS, st.integers(-3, 3)), max_size=30)


@given(HISTORIES)
def test_time_rises_with_the_version_and_folding_the_facts_gives_the_row(history: list[tuple[RecordFleetState, int]]) -> None:
    fleet: FleetState | None = None
    facts: list[tuple[Fact, Context]] = []
    for command, minutes in history:
        before = fleet
        fleet, outcome = run(before, command, NOON + minutes * MINUTE)
        if not isinstance(outcome, tuple):
            assert fleet is before
            continue
        facts += [(fact, replace(CONTEXT, time=NOON + minutes * MINUTE)) for fact in outcome]
        assert run(fleet, command, NOON + minutes * MINUTE) == (fleet, NO_CHANGE)
    times = [fact.timestamp for fact, _ in facts]
    assert times == sorted(set(times))
    for fact, _ in facts:
        assert sum(getattr(fact, name) for name in HEALTH_COUNTS) == fact.total_applications
        assert 0 <= fact.out_of_sync_count <= fact.total_applications
    assert reduce(lambda state, item: evolve(state, *item), facts, None) == fleet
    if fleet is not None:
        assert fleet.version == len(facts)
        assert fleet.updated_at == max(context.time for _, context in facts)


@given(st.permutations([record(number, timestamp=NOON - number * MINUTE) for number in range(5)]))
def test_the_latest_wins_in_any_order(commands: list[RecordFleetState]) -> None:
    fleet: FleetState | None = None
    for command in commands:
        fleet, _ = run(fleet, command)
    assert fleet is not None
    assert fleet.current.healthy_count == 0
