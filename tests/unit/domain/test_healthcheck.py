"""Health checks: each rule of the contract's chapter by its code, and the laws that hold for any history."""

from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.aggregate import HEALTHCHECK
from worker.domain.healthcheck import (
    Fact,
    HealthCheck,
    HealthCheckRecorded,
    HealthCondition,
    Outcome,
    RecordHealthCheck,
    check,
    decide,
    evolve,
    healthcheck_id,
)
from worker.domain.outcome import NO_CHANGE, Context
from worker.domain.parsing import parse_command
from worker.domain.rejection import Rejection

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
REF = "prod-eu/payments/checkout"
ID = healthcheck_id("acme", REF, "argocd")
CONTEXT = Context("acme", ID, NOON)
CONDITION = HealthCondition(type="ComparisonError", status="true", message="no such path")
ARGO_CD = {
    "Healthy": "healthy",
    "Progressing": "degraded",
    "Suspended": "degraded",
    "Degraded": "unhealthy",
    "Missing": "unhealthy",
    "Unknown": "unknown",
}


def record(**changes: object) -> RecordHealthCheck:
    fields = {"resource_ref": REF, "source": "argocd", "timestamp": NOON, "status": "healthy", "raw_status": "Healthy"} | changes
    return RecordHealthCheck(**fields)  # type: ignore[arg-type]


def subject_of(command: RecordHealthCheck) -> Context:
    return replace(CONTEXT, aggregate_id=healthcheck_id("acme", command.resource_ref, command.source))


def run(healthcheck: HealthCheck | None, command: RecordHealthCheck, time: datetime = NOON) -> tuple[HealthCheck | None, Outcome]:
    context = replace(CONTEXT, time=time)
    outcome = check(command, context) or decide(healthcheck, command, context)
    if isinstance(outcome, tuple):
        for fact in outcome:
            healthcheck = evolve(healthcheck, fact, context)
    return healthcheck, outcome


def code(outcome: Outcome | None) -> str:
    assert isinstance(outcome, Rejection)
    return outcome.code


def violated(outcome: Outcome | None) -> list[str]:
    assert isinstance(outcome, Rejection)
    return [violation.field for violation in outcome.violations]


def test_the_id_follows_from_tenant_resource_and_source() -> None:
    assert ID == "966be6c9-a132-5690-805d-f635d1bf6735"  # the contract's vector


# --- Check 8: shapes and sizes


@pytest.mark.parametrize(
    ("field", "value", "expected", "named"),
    [
        ("resource_ref", None, "SCHEMA_INVALID", "resource_ref"),
        ("source", "ar\0gocd", "SCHEMA_INVALID", "source"),
        ("status", "heal\nthy", "SCHEMA_INVALID", "status"),
        ("timestamp", 253_402_300_800_000_000, "SCHEMA_INVALID", "timestamp"),
        ("raw_status", "", "SCHEMA_INVALID", "raw_status"),
        ("raw_status", " ", "SCHEMA_INVALID", "raw_status"),
        ("raw_status", "x" * 101, "LIMIT_EXCEEDED", "raw_status"),
        ("conditions", [{"type": "T", "status": "true"}] * 51, "LIMIT_EXCEEDED", "conditions"),
        ("conditions", [{"type": " ", "status": "true"}], "SCHEMA_INVALID", "conditions[0].type"),
        ("conditions", [{"type": "T" * 101, "status": "true"}], "LIMIT_EXCEEDED", "conditions[0].type"),
        ("conditions", [{"type": "T", "status": "true"}, {"type": "T", "status": "True"}], "SCHEMA_INVALID", "conditions[1].status"),
        ("conditions", [{"type": "T", "status": "true", "reason": "r" * 201}], "LIMIT_EXCEEDED", "conditions[0].reason"),
        ("conditions", [{"type": "T", "status": "true", "reason": "\x1b[31m"}], "SCHEMA_INVALID", "conditions[0].reason"),
        ("conditions", [{"type": "T", "status": "true", "message": "m" * 2001}], "LIMIT_EXCEEDED", "conditions[0].message"),
        ("conditions", [{"type": "T", "status": "true", "message": "nul\0"}], "SCHEMA_INVALID", "conditions[0].message"),
    ],
)
def test_a_field_of_the_wrong_shape_or_size_is_named(field: str, value: object, expected: str, named: str) -> None:
    outcome = parse_command(HEALTHCHECK, "RecordHealthCheckRequested", asdict(record()) | {field: value}, ID)
    assert (code(outcome), violated(outcome)) == (expected, [named])


def test_the_largest_check_is_read_as_it_is() -> None:
    condition = HealthCondition(type="T" * 100, status="unknown", reason="r" * 200, message="line\n\t" + "m" * 1994)
    command = record(source="agent", raw_status="x" * 100, conditions=(condition,) * 50)
    assert parse_command(HEALTHCHECK, "RecordHealthCheckRequested", asdict(command), ID) == command


def test_raw_status_and_conditions_may_be_absent() -> None:
    fields = {"resource_ref": REF, "source": "probe", "timestamp": "2026-03-02T12:00:00Z", "status": "healthy"}
    command = parse_command(HEALTHCHECK, "RecordHealthCheckRequested", fields, ID)
    assert command == record(source="probe", raw_status=None)


@pytest.mark.parametrize("subject", ["checkout", ID.upper(), ID.replace("-", "")])
def test_a_subject_that_is_no_uuid_is_schema_invalid(subject: str) -> None:
    outcome = parse_command(HEALTHCHECK, "RecordHealthCheckRequested", asdict(record()), subject)
    assert (code(outcome), violated(outcome)) == ("SCHEMA_INVALID", ["ce_subject"])


# --- Check 9: rules that need nothing stored


@pytest.mark.parametrize(("raw_status", "status"), ARGO_CD.items())
def test_each_word_of_argo_cd_has_its_status_and_no_other(raw_status: str, status: str) -> None:
    assert check(record(raw_status=raw_status, status=status), CONTEXT) is None
    for other in {*ARGO_CD.values()} - {status}:
        outcome = check(record(raw_status=raw_status, status=other), CONTEXT)
        assert (code(outcome), violated(outcome)) == ("HEALTH_STATUS_INVALID", ["status"])


@pytest.mark.parametrize("source", ["probe", "agent"])
@pytest.mark.parametrize("status", ["healthy", "degraded", "unhealthy", "unknown"])
@pytest.mark.parametrize("raw_status", [None, "Healthy", "503"])
def test_other_sources_say_what_they_like_in_their_own_words(source: str, status: str, raw_status: str | None) -> None:
    command = record(source=source, status=status, raw_status=raw_status)
    assert check(command, subject_of(command)) is None


@pytest.mark.parametrize("ref", ["prod-eu", "prod-eu/payments", REF, f"{REF}/checkout-7d4b9", "prod-eu/-/ingress", "c/-/-/pod-1"])
def test_a_ref_has_one_to_four_levels(ref: str) -> None:
    command = record(resource_ref=ref)
    assert check(command, subject_of(command)) is None


@pytest.mark.parametrize("ref", ["", "-", "prod-eu/", "prod-eu/payments/-", "a/b/c/d/e", "prod eu", "prod-eu\n", "-eu", "a/" + "b" * 511])
def test_what_is_no_ref_is_resource_ref_invalid(ref: str) -> None:
    outcome = check(record(resource_ref=ref), CONTEXT)
    assert (code(outcome), violated(outcome)) == ("RESOURCE_REF_INVALID", ["resource_ref"])


@pytest.mark.parametrize(
    ("changes", "expected", "named"),
    [
        ({"source": "rumour"}, "HEALTH_SOURCE_INVALID", "source"),
        ({"source": ""}, "HEALTH_SOURCE_INVALID", "source"),
        ({"source": "ArgoCD"}, "HEALTH_SOURCE_INVALID", "source"),
        ({"status": "fine"}, "HEALTH_STATUS_INVALID", "status"),
        ({"status": "Healthy"}, "HEALTH_STATUS_INVALID", "status"),
        ({"raw_status": None}, "HEALTH_STATUS_INVALID", "raw_status"),
        ({"raw_status": "healthy"}, "HEALTH_STATUS_INVALID", "raw_status"),
        ({"raw_status": "OutOfSync"}, "HEALTH_STATUS_INVALID", "raw_status"),
        ({"timestamp": NOON + 5 * MINUTE + timedelta(microseconds=1)}, "TIMESTAMP_IN_FUTURE", "timestamp"),
        ({"timestamp": datetime(9999, 12, 31, 23, 59, tzinfo=UTC)}, "TIMESTAMP_IN_FUTURE", "timestamp"),
        ({"resource_ref": "prod-us/payments/checkout"}, "SCHEMA_INVALID", "ce_subject"),
        ({"source": "probe"}, "SCHEMA_INVALID", "ce_subject"),
    ],
)
def test_rules_that_need_nothing_stored(changes: dict[str, object], expected: str, named: str) -> None:
    outcome = check(record(**changes), CONTEXT)
    assert (code(outcome), violated(outcome)) == (expected, [named])


def test_the_subject_is_that_of_the_tenant() -> None:
    assert code(check(record(), replace(CONTEXT, tenant_id="globex"))) == "SCHEMA_INVALID"


def test_a_check_may_lie_five_minutes_after_the_intent_was_asked() -> None:
    assert check(record(timestamp=NOON + 5 * MINUTE), CONTEXT) is None


def test_the_first_rule_that_fails_decides() -> None:
    wrong: list[tuple[str, dict[str, object]]] = [
        ("RESOURCE_REF_INVALID", {"resource_ref": "-"}),
        ("HEALTH_SOURCE_INVALID", {"source": "rumour"}),
        ("HEALTH_STATUS_INVALID", {"status": "fine"}),
        ("TIMESTAMP_IN_FUTURE", {"timestamp": NOON + timedelta(days=1)}),
        ("SCHEMA_INVALID", {}),
    ]
    elsewhere = replace(CONTEXT, aggregate_id=healthcheck_id("acme", "elsewhere", "argocd"))
    for first in range(len(wrong)):
        changes = {name: value for _, change in wrong[first:] for name, value in change.items()}
        assert code(check(record(**changes), elsewhere)) == wrong[first][0]


# --- Check 10: rules that need the stored check


def test_the_first_check_has_no_status_before_it() -> None:
    healthcheck, outcome = run(None, record(conditions=(CONDITION,)))
    assert outcome == (HealthCheckRecorded(**asdict(record()) | {"conditions": (CONDITION,)}, previous_status=None),)
    assert healthcheck is not None
    assert (healthcheck.version, healthcheck.created_at, healthcheck.updated_at) == (1, NOON, NOON)
    assert healthcheck.latest.conditions == (CONDITION,)


def test_a_later_check_replaces_the_stored_one_and_names_its_status() -> None:
    healthcheck, _ = run(None, record(conditions=(CONDITION,)))
    later = record(timestamp=NOON + MINUTE, status="unhealthy", raw_status="Missing")
    healthcheck, outcome = run(healthcheck, later, NOON - MINUTE)
    assert outcome == (HealthCheckRecorded(**asdict(later), previous_status="healthy"),)
    assert healthcheck is not None
    assert (healthcheck.version, healthcheck.created_at, healthcheck.updated_at) == (2, NOON, NOON)
    assert asdict(healthcheck.latest) == asdict(later)


def test_a_later_check_with_nothing_new_in_it_is_recorded() -> None:
    healthcheck, _ = run(None, record())
    assert isinstance(run(healthcheck, record(timestamp=NOON + MINUTE))[1], tuple)


def test_the_stored_check_again_changes_nothing() -> None:
    healthcheck, _ = run(None, record(conditions=(CONDITION,)))
    assert run(healthcheck, record(conditions=(CONDITION,)), NOON + MINUTE) == (healthcheck, NO_CHANGE)


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "unhealthy", "raw_status": "Degraded"},
        {"status": "unhealthy", "raw_status": "Missing"},
        {"conditions": ()},
        {"conditions": (replace(CONDITION, message="other"),)},
        {"timestamp": NOON - timedelta(microseconds=1)},
        {"timestamp": NOON - timedelta(days=700)},
    ],
)
def test_a_check_that_is_not_later_than_the_stored_one_is_stale(changes: dict[str, object]) -> None:
    healthcheck, _ = run(None, record(conditions=(CONDITION,)))
    after, outcome = run(healthcheck, record(**{"conditions": (CONDITION,), **changes}))
    assert (code(outcome), violated(outcome)) == ("HEALTH_STALE", ["timestamp"])
    assert after is healthcheck


def test_conditions_in_another_order_are_another_check() -> None:
    other = replace(CONDITION, type="SyncError")
    healthcheck, _ = run(None, record(conditions=(CONDITION, other)))
    assert code(run(healthcheck, record(conditions=(other, CONDITION)))[1]) == "HEALTH_STALE"


# --- Laws

COMMANDS = st.builds(
    lambda minutes, word, status, conditions: record(
        timestamp=NOON + minutes * MINUTE, raw_status=word, status=status or ARGO_CD.get(word, "unknown"), conditions=conditions
    ),
    st.integers(-8, 8),
    st.sampled_from([*ARGO_CD, *ARGO_CD, "Fine"]),
    st.sampled_from([None, None, None, "healthy", "fine"]),
    st.sampled_from([(), (CONDITION,)]),
)
HISTORIES = st.lists(st.tuples(COMMANDS, st.integers(-3, 3)), max_size=30)


@given(HISTORIES)
def test_time_rises_with_the_version_and_folding_the_facts_gives_the_row(history: list[tuple[RecordHealthCheck, int]]) -> None:
    healthcheck: HealthCheck | None = None
    facts: list[tuple[Fact, Context]] = []
    for command, minutes in history:
        before = healthcheck
        healthcheck, outcome = run(before, command, NOON + minutes * MINUTE)
        if not isinstance(outcome, tuple):
            assert healthcheck is before
            continue
        facts += [(fact, replace(CONTEXT, time=NOON + minutes * MINUTE)) for fact in outcome]
        assert [fact.previous_status for fact in outcome] == [None if before is None else before.latest.status]
        assert run(healthcheck, command, NOON + minutes * MINUTE) == (healthcheck, NO_CHANGE)
    times = [fact.timestamp for fact, _ in facts]
    assert times == sorted(set(times))
    assert all(fact.status == ARGO_CD[fact.raw_status or ""] for fact, _ in facts)
    assert reduce(lambda state, item: evolve(state, *item), facts, None) == healthcheck
    if healthcheck is not None:
        assert healthcheck.version == len(facts)
        assert healthcheck.updated_at == max(context.time for _, context in facts)


@given(st.permutations([record(timestamp=NOON - number * MINUTE) for number in range(5)]))
def test_the_latest_wins_in_any_order(commands: list[RecordHealthCheck]) -> None:
    healthcheck: HealthCheck | None = None
    for command in commands:
        healthcheck, _ = run(healthcheck, command)
    assert healthcheck is not None
    assert healthcheck.latest.timestamp == NOON
