"""One incident from its opening to its closing: every check of its intents, every effect of its facts, and laws of any history."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.incidents import (
    acknowledge,
    add_entry,
    assign,
    close,
    correlate,
    create,
    merge,
    numbered,
    reclassify,
    resolve,
    transition,
)
from worker.domain.aggregate import INCIDENT
from worker.domain.alerts_correlated import AlertsCorrelatedToIncident, CorrelatedAlert
from worker.domain.ids import uid
from worker.domain.incident import MAX_TIMELINE, Incident, Outcome, TimelineEntry, check, decide, evolve
from worker.domain.incident_messages import (
    Fact,
    IncidentAcknowledged,
    IncidentAssigned,
    IncidentClosed,
    IncidentCreated,
    IncidentResolved,
    IncidentSeverityChanged,
    IncidentsMerged,
    IncidentStatusChanged,
    IncidentTimelineEntryAdded,
    LoneCommand,
)
from worker.domain.incident_status import STATUSES
from worker.domain.outcome import NO_CHANGE, Context
from worker.domain.parsing import parse_command
from worker.domain.rejection import Rejection

if TYPE_CHECKING:
    from collections.abc import Iterable

T0 = datetime(2026, 3, 2, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SUBJECT = numbered(1)
LONE_LIVE = (reclassify(), assign(), acknowledge(), transition(), resolve(), close())


def at(time: datetime = T0) -> Context:
    return Context("acme", SUBJECT, time)


def run(incident: Incident | None, command: LoneCommand, time: datetime = T0) -> tuple[Incident | None, Outcome]:
    """One intent from check to state, as the pipeline does it."""
    outcome: Outcome = check(command, at(time)) or decide(incident, command, at(time))
    if isinstance(outcome, tuple):
        return reduce(lambda state, fact: evolve(state, fact, at(time)), outcome, incident), outcome
    return incident, outcome


def after(*commands: LoneCommand, time: datetime = T0) -> Incident:
    incident: Incident | None = None
    for command in (create(), *commands):
        incident, outcome = run(incident, command, time)
        assert isinstance(outcome, tuple), outcome
    assert incident is not None
    return incident


IN_STATUS: dict[str, Incident] = {
    "open": after(),
    "acknowledged": after(acknowledge()),
    "investigating": after(transition()),
    "mitigating": after(transition(), transition("mitigating")),
    "resolved": after(resolve()),
    "closed": after(resolve(), close()),
}


def code(outcome: object) -> str:
    assert isinstance(outcome, Rejection), outcome
    return outcome.code


def fields_of(outcome: object) -> list[str]:
    assert isinstance(outcome, Rejection), outcome
    return [violation.field for violation in outcome.violations]


def test_a_creation_sets_all_its_fields_and_opens_the_incident() -> None:
    command = create("prod-eu/pay/checkout", description="since noon", assigned_to="bob", source="agent")
    incident, outcome = run(None, command)
    assert outcome == (
        IncidentCreated(
            title="Checkout is slow",
            description="since noon",
            severity="high",
            source="agent",
            affected_resources=("prod-eu/pay/checkout",),
            assigned_to="bob",
            actor="ann",
        ),
    )
    assert incident == Incident(
        version=1,
        created_at=T0,
        updated_at=T0,
        title="Checkout is slow",
        description="since noon",
        severity="high",
        status="open",
        source="agent",
        affected_resources=("prod-eu/pay/checkout",),
        assigned_to="bob",
        timeline=(),
        timeline_length=0,
        acknowledged_by=None,
        acknowledged_at=None,
        resolution=None,
        resolved_at=None,
        merged_into=None,
        alert_count=0,
        status_changed_at=T0,
    )


def test_each_resource_that_is_no_reference_is_named() -> None:
    outcome = check(create("prod-eu", "prod eu", "prod-eu/-/ingress", "-", "a/b/c/d/e", "x" * 600), at())
    assert code(outcome) == "RESOURCE_REF_INVALID"
    assert fields_of(outcome) == [f"affected_resources[{place}]" for place in (1, 3, 4, 5)]


def test_an_id_is_used_once() -> None:
    assert code(run(IN_STATUS["closed"], create())[1]) == "INCIDENT_ALREADY_EXISTS"


@pytest.mark.parametrize("command", [*LONE_LIVE, add_entry(T0)])
def test_what_was_never_created_is_not_found(command: LoneCommand) -> None:
    assert code(run(None, replace(command, expected_version=7))[1]) == "INCIDENT_NOT_FOUND"  # type: ignore[arg-type]


@pytest.mark.parametrize("command", [*LONE_LIVE, add_entry(T0)])
def test_another_version_than_expected_is_a_conflict_before_anything_else_of_the_state(command: LoneCommand) -> None:
    outcome = run(IN_STATUS["closed"], replace(command, expected_version=2))[1]  # type: ignore[arg-type]
    assert (code(outcome), fields_of(outcome)) == ("VERSION_CONFLICT", ["expected_version"])


def test_the_expected_version_is_accepted() -> None:
    assert isinstance(run(IN_STATUS["open"], assign(version=1))[1], tuple)


@pytest.mark.parametrize("command", LONE_LIVE)
def test_a_closed_incident_takes_nothing(command: LoneCommand) -> None:
    assert code(run(IN_STATUS["closed"], command)[1]) == "INCIDENT_CLOSED"


def test_a_severity_changes_to_another_one() -> None:
    incident, outcome = run(IN_STATUS["mitigating"], reclassify("low"))
    assert outcome == (IncidentSeverityChanged(previous_severity="high", severity="low", reason="fewer are hit", actor="ann"),)
    assert incident == replace(IN_STATUS["mitigating"], version=4, severity="low")
    assert code(run(incident, reclassify("low"))[1]) == "SEVERITY_UNCHANGED"


def test_an_assignment_names_who_had_it_before_and_repeated_changes_nothing() -> None:
    incident, outcome = run(IN_STATUS["open"], assign("bob"))
    assert outcome == (IncidentAssigned(previous_assigned_to=None, assigned_to="bob", actor="ann"),)
    assert run(incident, assign("bob")) == (incident, NO_CHANGE)
    incident, outcome = run(incident, assign("cho"))
    assert outcome == (IncidentAssigned(previous_assigned_to="bob", assigned_to="cho", actor="ann"),)
    assert incident == replace(IN_STATUS["open"], version=3, assigned_to="cho")


@pytest.mark.parametrize("blank", ["", " ", "\u2003\u00a0"])
def test_somebody_is_assigned(blank: str) -> None:
    outcome = run(None, assign(blank))[1]
    assert (code(outcome), fields_of(outcome)) == ("ASSIGNEE_REQUIRED", ["assigned_to"])


@pytest.mark.parametrize("status", STATUSES)
def test_a_timeline_grows_in_every_status_and_an_entry_has_the_id_of_its_fact(status: str) -> None:
    before = IN_STATUS[status]
    occurred_at = T0 - timedelta(days=900)
    incident, outcome = run(before, add_entry(occurred_at), T0 + MINUTE)
    assert outcome == (IncidentTimelineEntryAdded(kind="observation", text="p99 is 4 s", occurred_at=occurred_at, actor="ann"),)
    entry_id = str(uid("fact", "acme", "incident", SUBJECT, str(before.version + 1)))
    entry = TimelineEntry(entry_id=entry_id, kind="observation", text="p99 is 4 s", occurred_at=occurred_at, actor="ann")
    assert incident == replace(
        before, version=before.version + 1, updated_at=T0 + MINUTE, timeline=(*before.timeline, entry), timeline_length=1
    )


def test_an_entry_is_of_a_known_kind_and_not_of_the_future() -> None:
    wrong_twice = add_entry(T0 + 6 * MINUTE, kind="rumour")
    assert (code(run(None, wrong_twice)[1]), fields_of(run(None, wrong_twice)[1])) == ("TIMELINE_KIND_UNKNOWN", ["kind"])
    late = run(None, add_entry(T0 + 5 * MINUTE + timedelta(microseconds=1)))[1]
    assert (code(late), fields_of(late)) == ("TIMESTAMP_IN_FUTURE", ["occurred_at"])
    assert isinstance(run(IN_STATUS["open"], add_entry(T0 + 5 * MINUTE))[1], tuple)


def test_a_timeline_that_was_not_read_still_ends_at_its_limit() -> None:
    almost = replace(IN_STATUS["closed"], timeline_length=MAX_TIMELINE - 1)
    incident, outcome = run(almost, add_entry(T0))
    assert isinstance(outcome, tuple)
    assert incident is not None
    assert (len(incident.timeline), incident.timeline_length) == (1, 500)
    assert code(run(incident, add_entry(T0))[1]) == "LIMIT_EXCEEDED"


def test_an_acknowledgement_is_the_first_and_for_good() -> None:
    incident, outcome = run(IN_STATUS["open"], acknowledge("bob"), T0 + MINUTE)
    assert outcome == (IncidentAcknowledged(note="on it", actor="bob"),)
    acknowledged_at = T0 + MINUTE
    assert incident == replace(
        IN_STATUS["open"],
        version=2,
        updated_at=acknowledged_at,
        status="acknowledged",
        status_changed_at=acknowledged_at,
        acknowledged_by="bob",
        acknowledged_at=acknowledged_at,
    )
    for command in (transition(), resolve(), transition()):
        assert code(run(incident, acknowledge("cho"), T0 + MINUTE)[1]) == "ALREADY_ACKNOWLEDGED"
        incident, _ = run(incident, command, T0 + 2 * MINUTE)
    assert incident is not None
    assert (incident.acknowledged_by, incident.acknowledged_at) == ("bob", acknowledged_at)


@pytest.mark.parametrize("status", ["investigating", "mitigating", "resolved"])
def test_what_is_no_longer_open_is_not_acknowledged(status: str) -> None:
    assert code(run(IN_STATUS[status], acknowledge())[1]) == "INVALID_TRANSITION"


EDGES = {
    ("open", "investigating"),
    ("acknowledged", "investigating"),
    ("acknowledged", "mitigating"),
    ("investigating", "mitigating"),
    ("mitigating", "investigating"),
    ("resolved", "investigating"),
}


@pytest.mark.parametrize("target", ["open", "investigating", "mitigating"])
@pytest.mark.parametrize("status", ["open", "acknowledged", "investigating", "mitigating", "resolved"])
def test_a_transition_follows_the_edges(status: str, target: str) -> None:
    before = IN_STATUS[status]
    incident, outcome = run(before, transition(target))
    if status == target:
        assert (incident, outcome) == (before, NO_CHANGE)
    elif (status, target) in EDGES:
        assert outcome == (IncidentStatusChanged(previous_status=status, status=target, reason="next step", actor="bob"),)
        assert incident == replace(before, version=before.version + 1, status=target, resolution=None, resolved_at=None)
    else:
        assert code(outcome) == "INVALID_TRANSITION"


@pytest.mark.parametrize("target", ["acknowledged", "resolved", "closed"])
def test_a_status_with_an_intent_of_its_own_is_not_reached_by_transition(target: str) -> None:
    outcome = run(None, transition(target))[1]
    assert (code(outcome), fields_of(outcome)) == ("USE_DEDICATED_INTENT", ["status"])


@pytest.mark.parametrize("status", ["open", "acknowledged", "investigating", "mitigating"])
def test_any_unresolved_incident_is_resolved(status: str) -> None:
    before = IN_STATUS[status]
    incident, outcome = run(before, resolve("rolled\nback"), T0 + MINUTE)
    assert outcome == (IncidentResolved(previous_status=status, resolution="rolled\nback", actor="bob"),)
    assert incident == replace(
        before,
        version=before.version + 1,
        updated_at=T0 + MINUTE,
        status="resolved",
        status_changed_at=T0 + MINUTE,
        resolution="rolled\nback",
        resolved_at=T0 + MINUTE,
    )
    assert code(run(incident, resolve(), T0 + MINUTE)[1]) == "INVALID_TRANSITION"


@pytest.mark.parametrize("blank", ["", "\n\t ", "\u2028"])
def test_a_resolution_says_something(blank: str) -> None:
    outcome = run(None, resolve(blank))[1]
    assert (code(outcome), fields_of(outcome)) == ("RESOLUTION_REQUIRED", ["resolution"])


def test_only_a_resolved_incident_is_closed() -> None:
    for status in ("open", "acknowledged", "investigating", "mitigating"):
        assert code(run(IN_STATUS[status], close())[1]) == "INCIDENT_NOT_RESOLVED"
    incident, outcome = run(IN_STATUS["resolved"], close())
    assert outcome == (IncidentClosed(previous_status="resolved", merged_into=None, reason="reviewed", actor="ann"),)
    assert incident == replace(IN_STATUS["resolved"], version=3, status="closed")


@pytest.mark.parametrize(
    ("before", "command"),
    [("open", acknowledge()), ("open", transition()), ("open", resolve()), ("resolved", close())],
)
def test_a_status_intent_from_long_before_the_last_change_is_refused(before: str, command: LoneCommand) -> None:
    incident = IN_STATUS[before]
    late = run(incident, command, T0 - 5 * MINUTE - timedelta(microseconds=1))[1]
    assert code(late) == "TIMESTAMP_REGRESSION"
    moved, outcome = run(incident, command, T0 - 5 * MINUTE)
    assert isinstance(outcome, tuple)
    assert moved is not None
    assert (moved.status_changed_at, moved.updated_at) == (T0, T0), "neither goes back"
    assert moved.acknowledged_at in (None, T0)
    assert moved.resolved_at in (None, T0)


def test_what_sets_no_status_may_come_late() -> None:
    for command in (assign(), reclassify(), add_entry(T0 - 60 * MINUTE), transition("open")):
        assert not isinstance(run(IN_STATUS["open"], command, T0 - 60 * MINUTE)[1], Rejection)


@pytest.mark.parametrize(
    ("incident", "command", "expected"),
    [
        (IN_STATUS["acknowledged"], acknowledge(), "ALREADY_ACKNOWLEDGED"),
        (IN_STATUS["investigating"], acknowledge(), "INVALID_TRANSITION"),
        (IN_STATUS["open"], transition("mitigating"), "INVALID_TRANSITION"),
        (IN_STATUS["resolved"], resolve(), "INVALID_TRANSITION"),
        (IN_STATUS["open"], close(), "INCIDENT_NOT_RESOLVED"),
    ],
)
def test_the_status_is_asked_before_the_time(incident: Incident, command: LoneCommand, expected: str) -> None:
    assert code(run(incident, command, T0 - 60 * MINUTE)[1]) == expected


def test_the_facts_of_joint_intents_fold() -> None:
    incident = after()
    joined = tuple(CorrelatedAlert(alert_id=numbered(number), episode=1) for number in (7, 8))
    incident = evolve(incident, AlertsCorrelatedToIncident(incident_id=SUBJECT, alerts=joined, actor="ann"), at())
    assert incident == replace(after(), version=2, alert_count=2)
    incident = evolve(incident, IncidentsMerged(merged_incident_ids=(numbered(2),), affected_resources=("a", "b"), actor="ann"), at())
    assert incident == replace(after(), version=3, alert_count=2, affected_resources=("a", "b"))
    source = evolve(IN_STATUS["resolved"], IncidentClosed(previous_status="resolved", merged_into=SUBJECT, actor="ann"), at(T0 - MINUTE))
    assert source == replace(IN_STATUS["resolved"], version=3, status="closed", merged_into=SUBJECT)


def test_no_fact_but_a_creation_folds_onto_nothing() -> None:
    with pytest.raises(ValueError, match="never created"):
        evolve(None, IncidentAcknowledged(actor="ann"), at())


def test_at_least_one_incident_is_merged_none_twice_and_not_the_survivor() -> None:
    assert code(check(merge(), at())) == "MERGE_TARGET_INVALID"
    outcome = check(merge(numbered(2), numbered(1), numbered(3), numbered(2)), at())
    assert (code(outcome), fields_of(outcome)) == ("MERGE_TARGET_INVALID", ["merged_incident_ids[1]", "merged_incident_ids[3]"])
    assert check(merge(numbered(2), numbered(3)), at()) is None


def test_at_least_one_alert_is_correlated() -> None:
    outcome = check(correlate(), at())
    assert (code(outcome), fields_of(outcome)) == ("CORRELATION_EMPTY", ["alert_ids"])
    assert check(correlate(numbered(9)), at()) is None


def parse(intent: str, fields: dict[str, Any], subject: str = SUBJECT) -> Any:  # noqa: ANN401 - a command or a rejection
    return parse_command(INCIDENT, f"{intent}Requested", fields, subject)


CREATION: dict[str, Any] = {
    "title": "t",
    "description": "",
    "severity": "low",
    "source": "alert",
    "affected_resources": [],
    "assigned_to": None,
    "actor": "a",
}
ENTRY = {"kind": "note", "text": "t", "occurred_at": 0, "actor": "a"}


@pytest.mark.parametrize(
    ("intent", "fields", "expected", "field"),
    [
        ("CreateIncident", {**CREATION, "title": " "}, "SCHEMA_INVALID", "title"),
        ("CreateIncident", {**CREATION, "title": "t" * 201}, "LIMIT_EXCEEDED", "title"),
        ("CreateIncident", {**CREATION, "description": "d" * 10_001}, "LIMIT_EXCEEDED", "description"),
        ("CreateIncident", {**CREATION, "severity": "urgent"}, "SCHEMA_INVALID", "severity"),
        ("CreateIncident", {**CREATION, "source": "phone"}, "SCHEMA_INVALID", "source"),
        ("CreateIncident", {**CREATION, "assigned_to": ""}, "SCHEMA_INVALID", "assigned_to"),
        ("CreateIncident", {**CREATION, "affected_resources": [f"c{n}" for n in range(101)]}, "LIMIT_EXCEEDED", "affected_resources"),
        ("CreateIncident", {**CREATION, "actor": "\n"}, "SCHEMA_INVALID", "actor"),
        ("AssignIncident", {"assigned_to": "\n", "actor": "a"}, "SCHEMA_INVALID", "assigned_to"),
        ("AssignIncident", {"assigned_to": "x" * 201, "actor": "a"}, "LIMIT_EXCEEDED", "assigned_to"),
        ("AddIncidentTimelineEntry", {**ENTRY, "text": " \n"}, "SCHEMA_INVALID", "text"),
        ("AddIncidentTimelineEntry", {name: value for name, value in ENTRY.items() if name != "text"}, "SCHEMA_INVALID", "text"),
        ("AddIncidentTimelineEntry", {**ENTRY, "text": "x" * 10_001}, "LIMIT_EXCEEDED", "text"),
        ("AddIncidentTimelineEntry", {**ENTRY, "kind": "\t"}, "SCHEMA_INVALID", "kind"),
        ("TransitionIncidentStatus", {"status": "postponed", "reason": "", "actor": "a"}, "SCHEMA_INVALID", "status"),
        ("ResolveIncident", {"resolution": "x" * 10_001, "actor": "a"}, "LIMIT_EXCEEDED", "resolution"),
        ("ResolveIncident", {"resolution": "\x00", "actor": "a"}, "SCHEMA_INVALID", "resolution"),
        ("CloseIncident", {"reason": "x" * 2001, "actor": "a"}, "LIMIT_EXCEEDED", "reason"),
        ("MergeIncidents", {"merged_incident_ids": ["nope"], "actor": "a"}, "SCHEMA_INVALID", "merged_incident_ids[0]"),
        (
            "MergeIncidents",
            {"merged_incident_ids": [numbered(n) for n in range(21)], "actor": "a"},
            "LIMIT_EXCEEDED",
            "merged_incident_ids",
        ),
        ("CorrelateAlertsToIncident", {"alert_ids": [numbered(1).upper()[:-1] + "A"], "actor": "a"}, "SCHEMA_INVALID", "alert_ids[0]"),
        ("CorrelateAlertsToIncident", {"alert_ids": [numbered(n) for n in range(101)], "actor": "a"}, "LIMIT_EXCEEDED", "alert_ids"),
    ],
)
def test_fields_have_their_shape_and_size(intent: str, fields: dict[str, Any], expected: str, field: str) -> None:
    outcome = parse(intent, fields)
    assert (code(outcome), fields_of(outcome)) == (expected, [field])


def test_an_incident_id_is_a_uuid() -> None:
    assert fields_of(parse("CreateIncident", CREATION, "checkout-is-slow")) == ["ce_subject"]


def test_sets_drop_duplicates_before_they_are_counted_and_lists_keep_them() -> None:
    assert parse("CreateIncident", {**CREATION, "affected_resources": ["b", "a", "b"] * 60}).affected_resources == ("b", "a")
    assert parse("CorrelateAlertsToIncident", {"alert_ids": [numbered(2)] * 101, "actor": "a"}).alert_ids == (numbered(2),)
    assert parse("MergeIncidents", {"merged_incident_ids": [numbered(2)] * 2, "actor": "a"}).merged_incident_ids == (numbered(2),) * 2


def test_what_a_rule_judges_passes_the_shapes() -> None:
    for intent, fields, expected in (
        ("CreateIncident", {**CREATION, "affected_resources": ["not a ref"]}, "RESOURCE_REF_INVALID"),
        ("AssignIncident", {"assigned_to": "", "actor": "a"}, "ASSIGNEE_REQUIRED"),
        ("AddIncidentTimelineEntry", {**ENTRY, "kind": "x" * 20_000}, "TIMELINE_KIND_UNKNOWN"),
        ("ResolveIncident", {"resolution": "\n", "actor": "a"}, "RESOLUTION_REQUIRED"),
    ):
        assert code(check(parse(intent, fields), at())) == expected


TIMES = st.integers(-12, 12).map(lambda minutes: T0 + minutes * MINUTE)
COMMANDS: st.SearchStrategy[LoneCommand] = st.one_of(
    st.builds(create, st.sampled_from(["prod-eu", "prod-us/pay", "not a ref"])),
    st.builds(reclassify, st.sampled_from(["critical", "high", "medium", "low"])),
    st.builds(assign, st.sampled_from(["", "bob", "cho"])),
    st.builds(add_entry, TIMES, kind=st.sampled_from(["note", "rumour"])),
    st.builds(acknowledge, st.sampled_from(["bob", "cho"]), st.sampled_from([None, None, 1, 2])),
    st.builds(transition, st.sampled_from(STATUSES)),
    st.builds(transition, st.sampled_from(["investigating", "mitigating"])),
    st.builds(resolve, st.sampled_from(["", "rolled back"])),
    st.builds(close, st.sampled_from([None, None, 3])),
)
STEPS = EDGES | {("open", "acknowledged")} | {(status, "resolved") for status in STATUSES[:4]} | {("resolved", "closed")}


@settings(max_examples=300)
@given(st.lists(st.tuples(COMMANDS, TIMES), max_size=40))
def test_any_history_moves_along_the_edges_and_folding_its_facts_gives_the_state(history: list[tuple[LoneCommand, datetime]]) -> None:
    incident, _ = run(None, create())
    told: list[tuple[Fact, Context]] = [(fact, at()) for fact in decided(None, create())]
    for command, time in history:
        before = incident
        incident, outcome = run(before, command, time)
        assert before is not None
        assert incident is not None
        if isinstance(outcome, tuple):
            told += [(fact, at(time)) for fact in outcome]
            assert incident.version == before.version + len(outcome)
        else:
            assert incident is before
        assert before.status == incident.status or (before.status, incident.status) in STEPS
        if before.status == "closed" and isinstance(outcome, tuple):
            assert [type(fact) for fact in outcome] == [IncidentTimelineEntryAdded]
        assert incident.status_changed_at >= before.status_changed_at
        assert before.acknowledged_at in (None, incident.acknowledged_at)
        assert (incident.resolution is None) == (incident.resolved_at is None) == (incident.status not in ("resolved", "closed"))
        assert incident.timeline[: before.timeline_length] == before.timeline
        assert incident.timeline_length == len({entry.entry_id for entry in incident.timeline})
    assert fold(told) == incident


@given(st.lists(st.tuples(COMMANDS, TIMES), max_size=20), st.data())
def test_batches_that_read_no_timeline_decide_as_if_they_had_read_it(
    history: list[tuple[LoneCommand, datetime]], data: st.DataObject
) -> None:
    whole, _ = run(None, create())
    seen = whole
    for command, time in history:
        if seen is not None and data.draw(st.booleans()):
            seen = replace(seen, timeline=())
        whole, expected = run(whole, command, time)
        seen, outcome = run(seen, command, time)
        assert outcome == expected
        assert whole is not None
        assert seen is not None
        assert replace(seen, timeline=whole.timeline) == whole
        assert seen.timeline == whole.timeline[whole.timeline_length - len(seen.timeline) :]


def decided(incident: Incident | None, command: LoneCommand) -> tuple[Fact, ...]:
    outcome = decide(incident, command, at())
    assert isinstance(outcome, tuple)
    return outcome


def fold(told: Iterable[tuple[Fact, Context]]) -> Incident | None:
    state: Incident | None = None
    for fact, context in told:
        state = evolve(state, fact, context)
    return state
