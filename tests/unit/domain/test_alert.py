"""One alert through its episodes, each rule with its code, and the laws that hold for any history."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.domain.aggregate import ALERT
from worker.domain.alert import (
    FIRING,
    RESOLVED,
    AcknowledgeAlert,
    Alert,
    AlertAcknowledged,
    AlertIngested,
    AlertSilenced,
    AlertUnsilenced,
    Command,
    Fact,
    IngestAlert,
    Outcome,
    SilenceAlert,
    UnsilenceAlert,
    alert_id_of,
    check,
    decide,
    evolve,
)
from worker.domain.alerts_correlated import AlertsCorrelatedToIncident, CorrelatedAlert
from worker.domain.fingerprint import fingerprint_of
from worker.domain.outcome import NO_CHANGE, Context
from worker.domain.parsing import parse_command
from worker.domain.rejection import Rejection

T = datetime(2026, 3, 2, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
MICROSECOND = timedelta(microseconds=1)
BEFORE_1970 = datetime(1, 1, 1, tzinfo=UTC)  # Alertmanager's way to say never
LABELS = {"alertname": "HighErrorRate", "service": "checkout", "severity": "critical"}
ID = "465e4372-b4a6-51a0-a35b-05796e141dcf"
INCIDENT = "5f8d2c1e-6b1d-4f0f-8c64-0b8f6a3d2e10"
DESCRIPTION: dict[str, Any] = {
    "source": "prometheus",
    "fingerprint": "7d2d332feada5c59",
    "name": "HighErrorRate",
    "severity": "critical",
    "labels": LABELS,
    "annotations": {"summary": "5 % of checkouts fail", "runbook": ""},
}


def at(minutes: float) -> Context:
    return Context("acme", ID, T + minutes * MINUTE)


def fires(starts: float = 0, **changes: Any) -> IngestAlert:  # noqa: ANN401
    return IngestAlert(**DESCRIPTION | {"status": FIRING, "starts_at": T + starts * MINUTE} | changes)


def resolves(starts: float = 0, ends: float | None = None, **changes: Any) -> IngestAlert:  # noqa: ANN401
    ends_at = None if ends is None else T + ends * MINUTE
    return IngestAlert(**DESCRIPTION | {"status": RESOLVED, "starts_at": T + starts * MINUTE, "ends_at": ends_at} | changes)


ACKNOWLEDGE = AcknowledgeAlert(note="looking", actor="ann")
SILENCE = SilenceAlert(until=T + 90 * MINUTE, reason="deploy", actor="ann")
UNSILENCE = UnsilenceAlert(actor="bob")


def run(alert: Alert | None, command: Command, context: Context) -> tuple[Alert | None, Outcome]:
    """One intent from check to state, as the pipeline does it."""
    outcome: Outcome = check(command, context) or decide(alert, command, context)
    if isinstance(outcome, tuple):
        return reduce(lambda state, fact: evolve(state, fact, context), outcome, alert), outcome
    return alert, outcome


def after(*steps: tuple[float, Command]) -> Alert:
    """The alert after these, each of which must change it; given with the minute at which it is asked."""
    alert = None
    for minutes, command in steps:
        alert, outcome = run(alert, command, at(minutes))
        assert isinstance(outcome, tuple), outcome
    assert alert is not None
    return alert


def correlated(alert: Alert, minutes: float = 3) -> Alert:
    joined = CorrelatedAlert(alert_id=ID, episode=alert.episode)
    return evolve(alert, AlertsCorrelatedToIncident(incident_id=INCIDENT, alerts=(joined,), actor="ann"), at(minutes))


def code(outcome: Outcome) -> str:
    assert isinstance(outcome, Rejection), outcome
    return outcome.code


def fact(outcome: Outcome) -> Fact:
    assert isinstance(outcome, tuple), outcome
    (only,) = outcome
    return only


def ingested(outcome: Outcome) -> AlertIngested:
    only = fact(outcome)
    assert isinstance(only, AlertIngested)
    return only


# --- Shapes and sizes


def parse(changes: dict[str, object], subject: str = ID) -> Any:  # noqa: ANN401
    fields = {**DESCRIPTION, "status": FIRING, "starts_at": 0, "ends_at": None, **changes}
    return parse_command(ALERT, "IngestAlertRequested", fields, subject)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("source", "Prometheus", "SCHEMA_INVALID"),
        ("fingerprint", "a b", "SCHEMA_INVALID"),
        ("fingerprint", "x" * 129, "LIMIT_EXCEEDED"),
        ("name", " ", "SCHEMA_INVALID"),
        ("name", "x" * 201, "LIMIT_EXCEEDED"),
        ("severity", "warning", "SCHEMA_INVALID"),
        ("status", "firing\0", "SCHEMA_INVALID"),
        ("labels", {str(number): "x" for number in range(65)}, "LIMIT_EXCEEDED"),
        ("labels", {"": "x"}, "LIMIT_EXCEEDED"),
        ("labels", {"x" * 129: "x"}, "LIMIT_EXCEEDED"),
        ("labels", {"x": "x" * 4001}, "LIMIT_EXCEEDED"),
        ("labels", {"x": "\0"}, "SCHEMA_INVALID"),
        ("annotations", {"": ""}, "LIMIT_EXCEEDED"),
        ("annotations", {"\0": ""}, "SCHEMA_INVALID"),
        ("annotations", {str(number): "" for number in range(65)}, "LIMIT_EXCEEDED"),
        ("starts_at", 2**62, "SCHEMA_INVALID"),
        ("ends_at", -(2**62), "SCHEMA_INVALID"),  # also where it would be ignored
    ],
)
def test_shapes_and_sizes(field: str, value: object, expected: str) -> None:
    rejection = parse({field: value})
    assert isinstance(rejection, Rejection)
    assert (rejection.code, [violation.field for violation in rejection.violations]) == (expected, [field])


def test_an_alerts_id_is_a_lowercase_uuid() -> None:
    rejection = parse({}, ID.upper())
    assert (rejection.code, rejection.violations[0].field) == ("SCHEMA_INVALID", "ce_subject")


def test_a_label_without_a_value_is_dropped_before_the_limits_and_an_annotation_is_kept() -> None:
    empty = {str(number): "" for number in range(100)} | {"": "", "x" * 200: "", "\0": ""}
    command = parse({"labels": LABELS | empty, "annotations": {"a": ""}})
    assert command.labels == LABELS
    assert command.annotations == {"a": ""}
    assert check(command, at(0)) is None


def test_an_unknown_status_has_a_code_of_its_own_whatever_its_length() -> None:
    command = parse({"status": "x" * 10_000})
    assert code(check(command, at(0)) or NO_CHANGE) == "ALERT_STATUS_INVALID"


# --- Rules that need nothing stored


@pytest.mark.parametrize(
    ("command", "expected", "field"),
    [
        (fires(status="pending"), "ALERT_STATUS_INVALID", "status"),
        (fires(status=""), "ALERT_STATUS_INVALID", "status"),
        (fires(labels={}), "ALERT_LABELS_EMPTY", "labels"),
        (fires(fingerprint=""), "FINGERPRINT_REQUIRED", "fingerprint"),
        (fires(fingerprint="  ", source="custom"), "FINGERPRINT_REQUIRED", "fingerprint"),
        (fires(fingerprint="7d2d332feada5c58"), "FINGERPRINT_MISMATCH", "fingerprint"),
        (fires(fingerprint="7D2D332FEADA5C59"), "FINGERPRINT_MISMATCH", "fingerprint"),
        (fires(labels=LABELS | {"pod": "a"}), "FINGERPRINT_MISMATCH", "fingerprint"),
        (fires(starts_at=None), "ALERT_TIME_RANGE_INVALID", "starts_at"),
        (fires(starts_at=BEFORE_1970), "ALERT_TIME_RANGE_INVALID", "starts_at"),
        (fires(starts_at=datetime(1970, 1, 1, tzinfo=UTC) - MICROSECOND), "ALERT_TIME_RANGE_INVALID", "starts_at"),
        (resolves(0, -1), "ALERT_TIME_RANGE_INVALID", "starts_at"),
        (resolves(11), "ALERT_TIME_RANGE_INVALID", "starts_at"),  # its end would be ce_time, minute 10
        (resolves(11, ends_at=BEFORE_1970), "ALERT_TIME_RANGE_INVALID", "starts_at"),
        (fires(16), "TIMESTAMP_IN_FUTURE", "starts_at"),
        (resolves(0, 16), "TIMESTAMP_IN_FUTURE", "ends_at"),
        (fires(source="custom"), "SCHEMA_INVALID", "ce_subject"),
        (replace(SILENCE, until=T + 10 * MINUTE), "ALERT_TIME_RANGE_INVALID", "until"),
        (replace(SILENCE, until=BEFORE_1970), "ALERT_TIME_RANGE_INVALID", "until"),
    ],
)
def test_rules_that_need_nothing_stored(command: Command, expected: str, field: str) -> None:
    rejection = check(command, at(10))
    assert rejection is not None
    assert (rejection.code, [violation.field for violation in rejection.violations]) == (expected, [field])


@pytest.mark.parametrize(
    "command",
    [
        fires(15),
        fires(ends_at=BEFORE_1970),
        fires(ends_at=T - MINUTE),  # a firing alert has no end, whatever is sent
        fires(ends_at=T + 1000 * MINUTE),
        fires(starts_at=datetime(1970, 1, 1, tzinfo=UTC)),
        resolves(0, 0),
        resolves(15, 15),
        resolves(10),
        replace(SILENCE, until=T + 10 * MINUTE + MICROSECOND),
        ACKNOWLEDGE,
        UNSILENCE,
    ],
)
def test_what_the_rules_allow(command: Command) -> None:
    assert check(command, at(10)) is None


def test_both_times_in_the_future_are_named() -> None:
    rejection = check(resolves(16, 17), at(10))
    assert rejection is not None
    assert [violation.field for violation in rejection.violations] == ["starts_at", "ends_at"]


def test_the_first_broken_rule_decides() -> None:
    command = fires(16, status="pending", labels={}, fingerprint="")
    mends: list[tuple[str, dict[str, Any]]] = [
        ("ALERT_STATUS_INVALID", {"status": RESOLVED, "ends_at": T}),
        ("ALERT_LABELS_EMPTY", {"labels": LABELS}),
        ("FINGERPRINT_REQUIRED", {"fingerprint": "x"}),
        ("FINGERPRINT_MISMATCH", {"source": "custom"}),
        ("ALERT_TIME_RANGE_INVALID", {"ends_at": T + 17 * MINUTE}),
        ("TIMESTAMP_IN_FUTURE", {"starts_at": T, "ends_at": T}),
        ("SCHEMA_INVALID", {"source": "prometheus", "fingerprint": fingerprint_of(LABELS)}),
    ]
    for expected, mend in mends:
        assert code(check(command, at(10)) or NO_CHANGE) == expected
        command = replace(command, **mend)
    assert check(command, at(10)) is None


def test_an_alerts_id_follows_from_tenant_source_and_fingerprint() -> None:
    assert alert_id_of("acme", "prometheus", "7d2d332feada5c59") == ID
    assert check(fires(), at(0)) is None
    assert check(fires(), replace(at(0), tenant_id="globex")) is not None
    custom = fires(source="custom", fingerprint="sensor-7!")
    assert check(custom, replace(at(0), aggregate_id=alert_id_of("acme", "custom", "sensor-7!"))) is None


# --- Normalisation


def test_the_first_fact_has_what_was_sent_normalised() -> None:
    assert fact(run(None, fires(ends_at=T + MINUTE), at(1))[1]) == AlertIngested(
        **DESCRIPTION, status=FIRING, starts_at=T, ends_at=None, previous_status=None, episode=1
    )


@pytest.mark.parametrize(
    ("stored", "incoming", "ends"),
    [
        ([], resolves(0, 4), 4),
        ([], resolves(0), 10),
        ([], resolves(0, ends_at=BEFORE_1970), 10),
        ([(1, fires(0))], resolves(0), 10),
        ([(1, resolves(0, 5))], resolves(0, name="renamed"), 5),
        ([(1, resolves(0, 5))], resolves(5), 5),
        ([(1, resolves(0, 5))], resolves(6), 10),
        ([(1, resolves(0, 5))], resolves(0, 3), 3),
    ],
)
def test_the_end_of_a_resolved_alert(stored: list[tuple[float, Command]], incoming: IngestAlert, ends: float) -> None:
    outcome = run(after(*stored) if stored else None, incoming, at(10))[1]
    assert ingested(outcome).ends_at == T + ends * MINUTE


# --- Held against what is stored: each row of the contract's table

FIRED = after((10, fires(0)))
RESOLVED_AT_20 = after((10, fires(0)), (22, resolves(0, 20)))


@pytest.mark.parametrize(
    ("stored", "minutes", "incoming", "expected"),
    [
        (None, 0, fires(0), "episode 1"),
        (None, 0, resolves(0, 0), "episode 1"),
        # same
        (FIRED, 11, fires(0), "no change"),
        (FIRED, 9, fires(0), "no change"),
        (FIRED, 11, fires(0, ends_at=T + 99 * MINUTE), "no change"),
        (RESOLVED_AT_20, 21, resolves(0, 20), "no change"),
        (RESOLVED_AT_20, 99, resolves(0), "no change"),
        # firing, firing
        (FIRED, 9, fires(1), "ALERT_STALE"),
        (FIRED, 10, fires(1), "episode 1"),
        (FIRED, 11, fires(-5), "episode 1"),
        (FIRED, 11, fires(0, severity="low"), "episode 1"),
        (FIRED, 11, fires(0, name="renamed"), "episode 1"),
        (FIRED, 11, fires(0, annotations={}), "episode 1"),
        # firing, resolved
        (FIRED, 11, resolves(-9, -1), "ALERT_STALE"),
        (FIRED, 11, resolves(-9, 0), "episode 1"),
        (FIRED, 1, resolves(0, 1), "episode 1"),
        # resolved, resolved
        (RESOLVED_AT_20, 21, resolves(0, 21), "ALERT_STALE"),
        (RESOLVED_AT_20, 22, resolves(0, 21), "episode 1"),
        # resolved, firing
        (RESOLVED_AT_20, 21, fires(20), "ALERT_STALE"),
        (RESOLVED_AT_20, 22, fires(20), "ALERT_STALE"),
        (RESOLVED_AT_20, 17, fires(21), "episode 2"),
        (RESOLVED_AT_20, 23, fires(0), "episode 2"),
    ],
)
def test_ingest_by_what_is_stored(stored: Alert | None, minutes: float, incoming: IngestAlert, expected: str) -> None:
    outcome = run(stored, incoming, at(minutes))[1]
    if isinstance(outcome, Rejection):
        assert outcome.code == expected
    elif outcome == NO_CHANGE:
        assert expected == "no change"
    else:
        told = ingested(outcome)
        assert f"episode {told.episode}" == expected
        assert told.previous_status == (None if stored is None else stored.status)
        assert told.status == incoming.status


def test_labels_of_a_custom_alert_may_change() -> None:
    changes: dict[str, Any] = {"source": "custom", "fingerprint": "sensor-7"}
    context = replace(at(0), aggregate_id=alert_id_of("acme", "custom", "sensor-7"))
    alert, _ = run(None, fires(**changes), context)
    alert, outcome = run(alert, fires(**changes, labels={"room": "7"}), context)
    assert ingested(outcome).labels == {"room": "7"}
    assert run(alert, fires(**changes, labels={"room": "7"}), context)[1] == NO_CHANGE


def test_the_order_of_labels_and_annotations_does_not_count() -> None:
    annotations = dict(reversed(DESCRIPTION["annotations"].items()))
    assert run(FIRED, fires(labels=dict(reversed(LABELS.items())), annotations=annotations), at(11))[1] == NO_CHANGE


def test_what_is_the_same_does_not_move_observed_at() -> None:
    alert, _ = run(FIRED, fires(0), at(60))
    assert alert == FIRED
    assert alert.observed_at == T + 10 * MINUTE
    assert ingested(run(alert, fires(1), at(30))[1]).starts_at == T + MINUTE


def test_observed_at_is_the_greatest_ce_time_of_what_was_ingested() -> None:
    alert = after((10, fires(0)), (5, resolves(0, 4)))
    assert (alert.observed_at, alert.updated_at) == (T + 10 * MINUTE, T + 10 * MINUTE)
    alert = after((10, fires(0)), (5, resolves(0, 4)), (50, SILENCE))
    assert (alert.observed_at, alert.updated_at, alert.created_at) == (T + 10 * MINUTE, T + 50 * MINUTE, T + 10 * MINUTE)


def test_acknowledgement_incident_and_silence_stay_while_an_episode_lasts() -> None:
    held = correlated(after((1, fires(0)), (2, ACKNOWLEDGE), (2, SILENCE)))
    for incoming in (fires(-1, severity="low"), resolves(0, 5)):
        alert, _ = run(held, incoming, at(6))
        assert alert is not None
        assert (alert.acknowledged_by, alert.acknowledged_at, alert.incident_id) == ("ann", T + 2 * MINUTE, INCIDENT)
        assert (alert.silenced_until, alert.silence_reason) == (SILENCE.until, "deploy")


def test_a_new_episode_clears_acknowledgement_and_incident_and_keeps_the_silence() -> None:
    held = correlated(after((1, fires(0)), (2, ACKNOWLEDGE), (2, SILENCE), (6, resolves(0, 5))))
    alert, outcome = run(held, fires(7), at(8))
    assert ingested(outcome).previous_status == RESOLVED
    assert alert is not None
    assert (alert.episode, alert.acknowledged_by, alert.acknowledged_at, alert.incident_id) == (2, None, None, None)
    assert (alert.silenced_until, alert.silence_reason) == (SILENCE.until, "deploy")
    alert, outcome = run(alert, ACKNOWLEDGE, at(9))
    assert fact(outcome) == AlertAcknowledged(note="looking", actor="ann")


# --- Intents of people


def test_acknowledging_is_for_a_firing_alert_and_once_an_episode() -> None:
    alert, outcome = run(FIRED, ACKNOWLEDGE, at(11))
    assert fact(outcome) == AlertAcknowledged(note="looking", actor="ann")
    assert alert is not None
    assert (alert.acknowledged_by, alert.acknowledged_at) == ("ann", T + 11 * MINUTE)
    assert code(run(alert, replace(ACKNOWLEDGE, actor="bob"), at(12))[1]) == "ALREADY_ACKNOWLEDGED"
    assert code(run(RESOLVED_AT_20, ACKNOWLEDGE, at(23))[1]) == "ALERT_NOT_FIRING"
    alert, _ = run(alert, resolves(0, 12), at(12))
    assert code(run(alert, ACKNOWLEDGE, at(13))[1]) == "ALERT_NOT_FIRING"


def test_a_silence_is_set_replaced_and_ended() -> None:
    alert, outcome = run(RESOLVED_AT_20, SILENCE, at(23))
    assert fact(outcome) == AlertSilenced(until=SILENCE.until, reason="deploy", actor="ann")
    assert run(alert, replace(SILENCE, actor="bob"), at(24))[1] == NO_CHANGE
    alert, outcome = run(alert, replace(SILENCE, reason=""), at(24))
    assert fact(outcome) == AlertSilenced(until=SILENCE.until, actor="ann")
    alert, outcome = run(alert, replace(SILENCE, until=T + 80 * MINUTE), at(24))
    assert isinstance(fact(outcome), AlertSilenced)
    assert alert is not None
    alert, outcome = run(alert, UNSILENCE, at(25))
    assert fact(outcome) == AlertUnsilenced(actor="bob")
    assert alert is not None
    assert (alert.silenced_until, alert.silence_reason) == (None, None)
    assert run(alert, UNSILENCE, at(26))[1] == NO_CHANGE


def test_a_silence_that_has_run_out_needs_no_ending_and_may_be_set_again() -> None:
    alert, _ = run(FIRED, SILENCE, at(11))
    assert run(alert, UNSILENCE, at(90))[1] == NO_CHANGE
    assert isinstance(fact(run(alert, UNSILENCE, replace(at(90), time=at(90).time - MICROSECOND))[1]), AlertUnsilenced)
    assert isinstance(fact(run(alert, replace(SILENCE, until=T + 200 * MINUTE), at(95))[1]), AlertSilenced)


@pytest.mark.parametrize("command", [ACKNOWLEDGE, SILENCE, UNSILENCE])
def test_people_need_an_alert_at_the_version_they_expect(command: AcknowledgeAlert | SilenceAlert | UnsilenceAlert) -> None:
    assert code(run(None, command, at(11))[1]) == "ALERT_NOT_FOUND"
    assert code(run(None, replace(command, expected_version=1), at(11))[1]) == "ALERT_NOT_FOUND"
    for wrong in (0, 2, -(2**63)):
        outcome = run(FIRED, replace(command, expected_version=wrong), at(11))[1]
        assert isinstance(outcome, Rejection)
        assert (outcome.code, outcome.violations[0].field) == ("VERSION_CONFLICT", "expected_version")
    assert run(FIRED, replace(command, expected_version=1), at(11))[1] == run(FIRED, command, at(11))[1]


def test_the_version_is_asked_before_the_rules_of_the_intent() -> None:
    assert code(run(RESOLVED_AT_20, replace(ACKNOWLEDGE, expected_version=1), at(23))[1]) == "VERSION_CONFLICT"


def test_joining_an_incident_sets_it_and_nothing_else() -> None:
    alert = correlated(FIRED, minutes=30)
    assert alert == replace(FIRED, version=2, updated_at=T + 30 * MINUTE, incident_id=INCIDENT)


def test_a_fact_on_no_alert_is_a_fault() -> None:
    with pytest.raises(ValueError, match="AlertAcknowledged on an alert that was never ingested"):
        evolve(None, AlertAcknowledged(actor="ann"), at(0))


# --- Laws


@dataclass(frozen=True)
class Joins:
    """What a correlation, which the incident decides, does to the alert."""

    incident_id: str


MINUTES = st.integers(0, 12)
INGESTS = st.builds(
    lambda command, severity, annotations: replace(command, severity=severity, annotations=annotations),
    st.one_of(
        st.builds(fires, MINUTES),
        st.builds(resolves, MINUTES, st.one_of(st.none(), MINUTES)),
        st.builds(lambda starts: resolves(starts, ends_at=BEFORE_1970), MINUTES),
    ),
    st.sampled_from(["critical", "low"]),
    st.sampled_from([{}, {"summary": "x"}]),
)
VERSIONS = st.one_of(st.none(), st.none(), st.integers(1, 8))
PEOPLE = st.one_of(
    st.builds(lambda version: replace(ACKNOWLEDGE, expected_version=version), VERSIONS),
    st.builds(
        lambda minutes, reason, version: SilenceAlert(until=T + minutes * MINUTE, reason=reason, actor="ann", expected_version=version),
        MINUTES,
        st.sampled_from(["", "deploy"]),
        VERSIONS,
    ),
    st.builds(lambda version: replace(UNSILENCE, expected_version=version), VERSIONS),
)
JOINS = st.builds(Joins, st.sampled_from([INCIDENT, "0b7c6a52-5d0e-4c1b-9f0e-2a6f5d0c9a11"]))
HISTORIES = st.lists(st.tuples(MINUTES, st.one_of(INGESTS, INGESTS, PEOPLE, JOINS)), max_size=30)


def live(history: list[tuple[int, Command | Joins]]) -> list[tuple[Alert | None, Alert | None, Outcome, Fact | None, Context]]:
    """Each step: the alert before and after, what was decided, the fact if there is one, and the moment."""
    steps: list[tuple[Alert | None, Alert | None, Outcome, Fact | None, Context]] = []
    alert: Alert | None = None
    for minutes, command in history:
        context, before = at(minutes), alert
        if isinstance(command, Joins):
            if alert is not None and alert.incident_id is None:
                joined = CorrelatedAlert(alert_id=ID, episode=alert.episode)
                told = AlertsCorrelatedToIncident(incident_id=command.incident_id, alerts=(joined,), actor="ann")
                alert = evolve(alert, told, context)
                steps.append((before, alert, NO_CHANGE, told, context))
            continue
        alert, outcome = run(alert, command, context)
        steps.append((before, alert, outcome, fact(outcome) if isinstance(outcome, tuple) else None, context))
    return steps


@settings(max_examples=400)
@given(HISTORIES)
def test_no_history_reaches_a_state_that_cannot_be(history: list[tuple[int, Command | Joins]]) -> None:
    joined: dict[int, str] = {}
    for before, alert, outcome, told, _ in live(history):
        assert isinstance(outcome, tuple | Rejection) or outcome == NO_CHANGE
        if told is None:
            assert alert is before
        if alert is None:
            continue
        assert (alert.status == FIRING) == (alert.ends_at is None)
        assert alert.ends_at is None or alert.ends_at >= alert.starts_at
        assert (alert.acknowledged_by is None) == (alert.acknowledged_at is None)
        assert (alert.silenced_until is None) == (alert.silence_reason is None)
        assert alert.created_at <= alert.updated_at
        assert alert.observed_at <= alert.updated_at
        if before is not None:
            assert alert.observed_at >= before.observed_at
            assert alert.episode - before.episode == (before.status == RESOLVED and alert.status == FIRING)
            if before.status == FIRING and alert.status == RESOLVED:
                assert (alert.acknowledged_at, alert.incident_id) == (before.acknowledged_at, before.incident_id)
        if alert.incident_id is not None:
            assert joined.setdefault(alert.episode, alert.incident_id) == alert.incident_id


@given(HISTORIES)
def test_folding_the_facts_gives_the_row(history: list[tuple[int, Command | Joins]]) -> None:
    steps = live(history)
    facts = [(told, context) for *_, told, context in steps if told is not None]
    folded = reduce(lambda state, item: evolve(state, *item), facts, None)
    assert folded == (steps[-1][1] if steps else None)
    if folded is not None:
        assert folded.version == len(facts)
        times = [context.time for told, context in facts if isinstance(told, AlertIngested)]
        assert (folded.created_at, folded.observed_at) == (facts[0][1].time, max(times))
        assert folded.updated_at == max(context.time for _, context in facts)


@given(HISTORIES, INGESTS, MINUTES)
def test_telling_twice_changes_nothing(history: list[tuple[int, Command | Joins]], command: IngestAlert, minutes: int) -> None:
    steps = live(history)
    alert, outcome = run(steps[-1][1] if steps else None, command, at(minutes))
    again, second = run(alert, command, at(minutes))
    assert again == alert
    assert second == (outcome if isinstance(outcome, Rejection) else NO_CHANGE)


@given(st.permutations([(1, fires(0)), (6, resolves(0, 5))]), st.lists(st.sampled_from([(1, fires(0)), (6, resolves(0, 5))]), max_size=4))
def test_an_episode_that_is_told_in_any_order_and_any_number_of_times_ends_resolved(
    told: list[tuple[int, IngestAlert]], again: list[tuple[int, IngestAlert]]
) -> None:
    alert: Alert | None = None
    for minutes, command in (*told, *again):
        alert, _ = run(alert, command, at(minutes))
    assert alert is not None
    assert (alert.status, alert.episode, alert.ends_at) == (RESOLVED, 1, T + 5 * MINUTE)
