"""Merging: the survivor's resources grow, the others are closed; all of it or nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.incidents import create, merge, numbered
from worker.domain import merging
from worker.domain.incident import Incident, evolve
from worker.domain.incident_messages import IncidentClosed, IncidentCreated, IncidentsMerged, MergeIncidents
from worker.domain.incident_status import STATUSES, UNRESOLVED
from worker.domain.outcome import Context, FactOn
from worker.domain.rejection import Rejection

if TYPE_CHECKING:
    from worker.domain.merging import Outcome

T0 = datetime(2026, 3, 2, tzinfo=UTC)
CONTEXT = Context("acme", numbered(1), T0)


def incident(*resources: str, status: str = "open") -> Incident:
    command = create(*resources)
    fields = {name: getattr(command, name) for name in command.__dataclass_fields__}
    return replace(evolve(None, IncidentCreated(**fields), CONTEXT), status=status)


def decide(command: MergeIncidents, states: dict[int, Incident], survivor: Incident | None, context: Context = CONTEXT) -> Outcome:
    named = dict.fromkeys(merging.others(command))
    found = {("incident", numbered(number)): state for number, state in states.items()}
    return merging.decide(survivor, command, context, {**named, **found})


def code(outcome: object) -> str:
    assert isinstance(outcome, Rejection), outcome
    return outcome.code


def test_it_names_the_incidents_that_it_closes() -> None:
    assert list(merging.others(merge(numbered(3), numbered(2)))) == [("incident", numbered(3)), ("incident", numbered(2))]


def test_the_survivor_takes_all_resources_as_listed_and_the_others_close_by_ascending_id() -> None:
    states = {3: incident("c", "a", status="resolved"), 2: incident("d", "c", "b", status="mitigating")}
    outcome = decide(merge(numbered(3), numbered(2)), states, incident("b", "a"))
    assert outcome == (
        IncidentsMerged(
            merged_incident_ids=(numbered(3), numbered(2)), affected_resources=("b", "a", "c", "d"), reason="one cause", actor="ann"
        ),
        FactOn(
            "incident",
            numbered(2),
            IncidentClosed(previous_status="mitigating", merged_into=numbered(1), reason="one cause", actor="ann"),
        ),
        FactOn(
            "incident", numbered(3), IncidentClosed(previous_status="resolved", merged_into=numbered(1), reason="one cause", actor="ann")
        ),
    )


@pytest.mark.parametrize("status", STATUSES)
def test_only_an_unresolved_incident_goes_on(status: str) -> None:
    outcome = decide(merge(numbered(2)), {2: incident()}, incident(status=status))
    assert isinstance(outcome, tuple) if status in UNRESOLVED else code(outcome) == "MERGE_TARGET_INVALID"


@pytest.mark.parametrize("status", STATUSES)
def test_any_incident_but_a_closed_one_is_merged(status: str) -> None:
    outcome = decide(merge(numbered(2)), {2: incident(status=status)}, incident())
    assert isinstance(outcome, tuple) if status != "closed" else code(outcome) == "INCIDENT_CLOSED"


def test_when_the_statuses_changed_is_not_asked() -> None:
    early = replace(CONTEXT, time=T0 - timedelta(days=20))
    assert isinstance(decide(merge(numbered(2)), {2: incident()}, incident(), early), tuple)


def test_what_is_wrong_is_told_in_the_contracts_order_naming_every_field() -> None:
    command = merge(numbered(2), numbered(3), numbered(4), numbered(5), version=9)
    states = {2: incident(status="closed"), 4: incident(*(f"a{n}" for n in range(60))), 5: incident(status="closed")}
    full = incident(*(f"b{n}" for n in range(41)), status="closed")
    assert code(decide(command, states, None)) == "INCIDENT_NOT_FOUND"
    assert code(decide(command, states, full)) == "VERSION_CONFLICT"
    command = replace(command, expected_version=1)
    assert code(decide(command, states, full)) == "MERGE_TARGET_INVALID"
    full = replace(full, status="open")
    absent = decide(command, states, full)
    assert isinstance(absent, Rejection)
    assert (absent.code, [one.field for one in absent.violations]) == ("INCIDENT_NOT_FOUND", ["merged_incident_ids[1]"])
    closed = decide(command, {**states, 3: incident()}, full)
    assert isinstance(closed, Rejection)
    assert (closed.code, [one.field for one in closed.violations]) == (
        "INCIDENT_CLOSED",
        ["merged_incident_ids[0]", "merged_incident_ids[3]"],
    )
    states = {**states, 2: incident(), 3: incident(), 5: incident()}
    assert code(decide(command, states, full)) == "LIMIT_EXCEEDED"
    outcome = decide(command, {**states, 4: incident(*(f"a{n}" for n in range(59)))}, full)
    assert isinstance(outcome, tuple)
    assert len(outcome) == 5


@given(st.permutations(range(2, 9)), st.lists(st.lists(st.sampled_from("abcdef"), unique=True), min_size=8, max_size=8))
def test_each_merged_incident_closes_once_and_no_resource_is_lost(order: list[int], resources: list[list[str]]) -> None:
    states = {number: incident(*own) for number, own in zip(range(2, 9), resources[1:], strict=True)}
    outcome = decide(merge(*map(numbered, order)), states, incident(*resources[0]))
    assert isinstance(outcome, tuple)
    first, *rest = outcome
    assert isinstance(first, IncidentsMerged)
    assert first.affected_resources[: len(resources[0])] == tuple(resources[0])
    assert sorted(first.affected_resources) == sorted({ref for own in resources for ref in own})
    assert [fact.aggregate_id for fact in rest if isinstance(fact, FactOn)] == list(map(numbered, range(2, 9)))
