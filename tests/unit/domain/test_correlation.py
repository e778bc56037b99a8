"""Alerts join an incident: all of them or none, and each in the episode it is in."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.incidents import correlate, create, numbered
from worker.domain import alert, correlation
from worker.domain.alerts_correlated import AlertsCorrelatedToIncident, CorrelatedAlert
from worker.domain.incident import Incident, evolve
from worker.domain.incident_messages import CorrelateAlertsToIncident, IncidentCreated
from worker.domain.incident_status import STATUSES, UNRESOLVED
from worker.domain.outcome import NO_CHANGE, Context, FactOn
from worker.domain.rejection import Rejection

if TYPE_CHECKING:
    from random import Random

    from worker.domain.alert import Alert
    from worker.domain.correlation import Outcome

T0 = datetime(2026, 3, 2, tzinfo=UTC)
CONTEXT = Context("acme", numbered(1), T0)
HERE, ELSEWHERE = numbered(1), numbered(2)


def incident(status: str = "open") -> Incident:
    command = create()
    fields = {name: getattr(command, name) for name in command.__dataclass_fields__}
    return replace(evolve(None, IncidentCreated(**fields), CONTEXT), status=status)


def firing(episode: int = 1, incident_id: str | None = None, status: str = "firing") -> Alert:
    ingested = alert.AlertIngested(
        source="custom", fingerprint="f", name="Slow", severity="low", status=status, labels={"a": "b"}, starts_at=T0, episode=episode
    )
    return replace(alert.evolve(None, ingested, CONTEXT), incident_id=incident_id)


def decide(command: CorrelateAlertsToIncident, alerts: dict[int, Alert], subject: Incident | None) -> Outcome:
    named = dict.fromkeys(correlation.others(command))
    found = {("alert", numbered(number)): state for number, state in alerts.items()}
    return correlation.decide(subject, command, CONTEXT, {**named, **found})


def code(outcome: object) -> str:
    assert isinstance(outcome, Rejection), outcome
    return outcome.code


def joined(*alerts: tuple[int, int]) -> AlertsCorrelatedToIncident:
    each = tuple(CorrelatedAlert(alert_id=numbered(number), episode=episode) for number, episode in alerts)
    return AlertsCorrelatedToIncident(incident_id=HERE, alerts=each, actor="ann")


def test_it_names_the_alerts() -> None:
    assert list(correlation.others(correlate(numbered(8), numbered(7)))) == [("alert", numbered(8)), ("alert", numbered(7))]


def test_the_incidents_fact_comes_first_and_then_one_for_each_alert_by_ascending_id() -> None:
    alerts = {9: firing(episode=3), 7: firing(status="resolved"), 8: firing(incident_id=HERE)}
    outcome = decide(correlate(numbered(9), numbered(8), numbered(7)), alerts, incident())
    assert outcome == (
        joined((7, 1), (9, 3)),
        FactOn("alert", numbered(7), joined((7, 1))),
        FactOn("alert", numbered(9), joined((9, 3))),
    )


def test_alerts_that_are_all_here_already_change_nothing() -> None:
    alerts = {number: firing(incident_id=HERE) for number in (7, 8)}
    assert decide(correlate(numbered(7), numbered(8)), alerts, incident()) == NO_CHANGE


@pytest.mark.parametrize("status", STATUSES)
def test_only_an_unresolved_incident_is_joined(status: str) -> None:
    outcome = decide(correlate(numbered(7)), {7: firing()}, incident(status))
    assert isinstance(outcome, tuple) if status in UNRESOLVED else code(outcome) == "INCIDENT_NOT_OPEN"


def test_alerts_that_are_here_already_are_no_reason_to_pass_over_a_closed_incident() -> None:
    assert code(decide(correlate(numbered(7)), {7: firing(incident_id=HERE)}, incident("closed"))) == "INCIDENT_NOT_OPEN"


def test_what_is_wrong_is_told_in_the_contracts_order_naming_every_field() -> None:
    command = correlate(*map(numbered, (5, 6, 7, 8, 9)), version=4)
    alerts = {5: firing(), 7: firing(incident_id=HERE), 6: firing(incident_id=ELSEWHERE), 9: firing(2, ELSEWHERE)}
    assert code(decide(command, alerts, None)) == "INCIDENT_NOT_FOUND"
    assert code(decide(command, alerts, incident("closed"))) == "VERSION_CONFLICT"
    command = replace(command, expected_version=1)
    assert code(decide(command, alerts, incident("resolved"))) == "INCIDENT_NOT_OPEN"
    absent = decide(command, alerts, incident())
    assert isinstance(absent, Rejection)
    assert (absent.code, [one.field for one in absent.violations]) == ("ALERT_NOT_FOUND", ["alert_ids[3]"])
    elsewhere = decide(command, {**alerts, 8: firing()}, incident())
    assert isinstance(elsewhere, Rejection)
    assert (elsewhere.code, [one.field for one in elsewhere.violations]) == ("ALERT_ALREADY_CORRELATED", ["alert_ids[1]", "alert_ids[4]"])


PLACES = st.lists(st.tuples(st.integers(1, 9), st.sampled_from([None, HERE, ELSEWHERE])), min_size=1, max_size=6)


@given(PLACES, st.randoms())
def test_an_alert_joins_iff_it_is_on_no_incident_and_none_joins_where_one_is_elsewhere(
    places: list[tuple[int, str | None]], random: Random
) -> None:
    alerts = {number: firing(episode, place) for number, (episode, place) in enumerate(places, start=10)}
    order = random.sample(sorted(alerts), len(alerts))
    outcome = decide(correlate(*map(numbered, order)), alerts, incident())
    free = [(number, one.episode) for number, one in alerts.items() if one.incident_id is None]
    if any(place == ELSEWHERE for _, place in places):
        assert code(outcome) == "ALERT_ALREADY_CORRELATED"
    elif not free:
        assert outcome == NO_CHANGE
    else:
        each = (FactOn("alert", numbered(number), joined((number, episode))) for number, episode in free)
        assert outcome == (joined(*free), *each)
