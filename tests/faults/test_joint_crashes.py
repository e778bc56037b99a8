"""kill -9 of workers that correlate the same alerts, and merge the same incidents, at the same time: all of an intent happens or none."""

from __future__ import annotations

import os
from itertools import count
from typing import TYPE_CHECKING, LiteralString

import pytest

from tests.support.records import CODEC
from tests.support.refusals import NOW, alert_id, created, firing, incident_id
from tests.support.system import System, running_system
from worker.client import Intent, Outgoing, to_outgoing
from worker.domain.aggregate import intent_name
from worker.domain.incident_messages import CorrelateAlertsToIncident, MergeIncidents

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CRASH_RUNS = int(os.environ.get("CRASH_RUNS", "1"))
PAIRS = 400
NUMBERS = count()
NOT_DUE: LiteralString = "outcome = 'rejected' AND code NOT IN ('ALERT_ALREADY_CORRELATED', 'INCIDENT_NOT_OPEN', 'INCIDENT_CLOSED')"


def ask(command: object, aggregate_id: str) -> Outgoing:
    intent_id = f"joint-{next(NUMBERS)}"
    return to_outgoing(Intent(intent_name(type(command)), "acme", aggregate_id, command, "/tests", intent_id, NOW), CODEC)


def rivals(number: int) -> tuple[str, str]:
    """Two incidents that claim the same alerts; they lie in partitions of their own."""
    return incident_id(f"one {number}"), incident_id(f"other {number}")


def claims() -> Iterator[Outgoing]:
    """Each pair claims three alerts, two of which are claimed by neighbours too; then one is merged into the other, and asked again."""
    for number in range(PAIRS):
        alerts = tuple(alert_id(f"disk-{(number + step) % PAIRS}") for step in range(3))
        for incident in rivals(number):
            yield ask(CorrelateAlertsToIncident(alert_ids=alerts, actor="ann"), incident)
        one, other = rivals(number)
        merge = ask(MergeIncidents(merged_incident_ids=(other,), actor="ann"), one)
        yield from (merge, merge)


@pytest.fixture
def system(kafka: str, database: str, topics: tuple[str, ...], tmp_path: Path) -> Iterator[System]:  # noqa: ARG001 - made, then used by name
    with running_system(kafka, database, tmp_path) as running:
        yield running


@pytest.mark.timeout(600)
@pytest.mark.parametrize("run", range(CRASH_RUNS))
def test_crash_of_workers_that_claim_the_same_alerts_leaves_nothing_half_done(system: System, run: int) -> None:  # noqa: ARG001 - a number
    system.start("relay")
    workers = [system.start("worker"), system.start("worker")]
    there = [ask(firing(f"disk-{number}"), alert_id(f"disk-{number}")) for number in range(PAIRS)]
    there += [ask(created(), incident) for number in range(PAIRS) for incident in rivals(number)]
    system.publish(there)
    system.wait_for_outcomes(len(there), where="outcome = 'facts'")

    system.publish(claims())
    due = len(there) + 3 * PAIRS
    for step in (1, 2):
        system.wait_for_outcomes(len(there) + step * PAIRS)
        system.kill(workers[0])
        workers = [workers[1], system.start("worker")]
    system.wait_for_outcomes(due)
    system.wait_until_published()

    assert system.count("inbox") == due

    assert system.count("inbox", NOT_DUE) == 0
    assert system.count("alert", "incident_id IS NULL") < PAIRS
    assert system.breaches() == []
    assert system.breaches(system.seen) == []
