"""worker/client.py as a team uses it: intents under keys of its own, and the projection of docs/projection.md, killed and started again."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

import pytest

from tests.support.facts import transaction, write_fact
from tests.support.system import System, running_system
from worker.client import Intent, IntentPublisher, intent_id_of
from worker.domain.aggregate import intent_name
from worker.domain.incident_messages import (
    AcknowledgeIncident,
    AddIncidentTimelineEntry,
    CloseIncident,
    CreateIncident,
    IncidentClosed,
    IncidentCreated,
    IncidentResolved,
    IncidentStatusChanged,
    MergeIncidents,
    ResolveIncident,
    TransitionIncidentStatus,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SOURCE = "/teams/checkout"
NOW = datetime.now(UTC)
SECONDS = 60


def start(kafka: str, database: Path, *options: str) -> subprocess.Popen[str]:
    program = [sys.executable, str(ROOT / "examples" / "open_incidents.py"), "--bootstrap", kafka, "--database", str(database), *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def counts(kafka: str, database: Path) -> dict[str, int]:
    """Open incidents by service, once the projection has caught up."""
    process = start(kafka, database)
    output, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, errors) == (0, "")
    return {line["service"]: line["open"] for line in map(json.loads, filter(None, output.splitlines()))}


def incident_id(number: int) -> str:
    return str(uuid5(UUID(int=0), f"incident {number}"))


def ask(number: int, command: object) -> Intent:
    """The caller's key is the incident's number and what is asked of it; its time is one and the same for each run."""
    name = intent_name(type(command))
    return Intent(name, "acme", incident_id(number), command, SOURCE, intent_id_of(SOURCE, f"{number}/{name}"), NOW)


def create(number: int, *refs: str) -> Intent:
    command = CreateIncident(title=f"Incident {number}", severity="high", source="manual", affected_resources=refs, actor="ann")
    return ask(number, command)


@pytest.fixture
def system(kafka: str, database: str, topics: tuple[str, ...], tmp_path: Path) -> Iterator[System]:  # noqa: ARG001 - made, then used by name
    with running_system(kafka, database, tmp_path) as running:
        running.start("relay")
        running.start("worker")
        yield running


CREATIONS = (
    create(1, "prod-eu/payments/checkout", "prod-eu/payments/checkout/pod-1", "prod-eu/payments/cart"),
    create(2, "prod-eu/payments/checkout"),
    create(3, "prod-eu/-/ingress"),
    create(4, "prod-eu/payments/cart"),
    create(5, "prod-eu/payments/search/pod-7"),
)
LATER = (
    ask(1, AcknowledgeIncident(actor="ann")),
    ask(2, ResolveIncident(resolution="rolled back", actor="ann")),
    ask(3, ResolveIncident(resolution="restarted", actor="ann")),
    ask(3, CloseIncident(actor="ann")),
    ask(4, MergeIncidents(merged_incident_ids=(incident_id(5),), actor="ann")),
)
NOTES = tuple(
    replace(ask(number, AddIncidentTimelineEntry(kind="note", text="seen", occurred_at=NOW, actor="ann")), intent_id=f"note-{number}")
    for number in range(1, 6)
)
REOPENING = replace(ask(2, TransitionIncidentStatus(status="investigating", reason="it is back", actor="ann")), intent_id="reopening")


def test_the_same_key_is_one_intent_with_one_outcome_and_the_projection_counts_it_once(system: System, tmp_path: Path, kafka: str) -> None:
    projection = tmp_path / "incidents.sqlite"
    with IntentPublisher(system.settings) as publisher:
        publisher.publish(CREATIONS)
        system.wait_for_outcomes(len(CREATIONS))  # incident 4 lies in another partition than 5, which it merges
        for _ in range(3):
            publisher.publish([*CREATIONS, *LATER])
        publisher.publish(NOTES)
        system.wait_for_outcomes(len(NOTES), where="intent_id LIKE 'note-%'")  # and with these of all that lies before them
        assert system.count("inbox", "outcome = 'facts'") == system.count("inbox") == len(CREATIONS + LATER + NOTES)
        system.wait_until_published()
        for _ in range(2):
            assert counts(kafka, projection) == {"checkout": 1, "cart": 2, "search": 1}

        publisher.publish([REOPENING])
        system.wait_for_outcomes(1, where="intent_id = 'reopening'")
        system.wait_until_published()
        assert counts(kafka, projection) == {"checkout": 2, "cart": 2, "search": 1}


RESOLVED = IncidentResolved(previous_status="open", resolution="rolled back", actor="ann")
CLOSED = IncidentClosed(previous_status="resolved", actor="ann")
REOPENED = IncidentStatusChanged(previous_status="resolved", status="investigating", actor="ann")
LIVES: tuple[tuple[Any, ...], ...] = ((), (RESOLVED,), (RESOLVED, CLOSED), (RESOLVED, REOPENED))  # by the incident's number modulo 4
INCIDENTS = 2000
AT_ONCE = 500
SERVICES = 7


def facts_of(number: int) -> list[Any]:
    ref = f"prod-eu/shop/service-{number % SERVICES}"
    created = IncidentCreated(title="Down", severity="high", source="manual", affected_resources=(ref,), actor="ann")
    return [created, *LIVES[number % len(LIVES)]]


def write(kafka: str, incidents: range, *, tomorrow: bool = False) -> None:
    """All facts of the incidents; where `tomorrow`, behind them a fact that the reader does not know, and a resolution."""
    with transaction(kafka) as producer:
        for number in incidents:
            place: dict[str, Any] = {"aggregate": "incident", "aggregate_id": incident_id(number)}
            facts = facts_of(number)
            for version, fact in enumerate(facts, start=1):
                write_fact(producer, version, fact, **place)
            if tomorrow:
                write_fact(producer, len(facts) + 1, name="IncidentFactOfTomorrow", value=b"\xc3\x01" + bytes(8), **place)
                write_fact(producer, len(facts) + 2, RESOLVED, **place)


def applied(database: Path) -> int:
    """Versions that the projection has stored."""
    with closing(sqlite3.connect(database, timeout=SECONDS)) as connection:
        try:
            return int(connection.execute("SELECT coalesce(sum(version), 0) FROM applied").fetchone()[0])
        except sqlite3.OperationalError:  # it has not made its tables yet
            return 0


def versions(database: Path) -> dict[str, int]:
    with closing(sqlite3.connect(database)) as connection:
        return dict(connection.execute("SELECT id, version FROM applied"))


def kill_on_the_way(kafka: str, database: Path) -> int:
    """What the projection had stored when it was killed, as soon as it had begun to store."""
    process, before = start(kafka, database, "--follow"), applied(database)
    deadline = time.monotonic() + SECONDS
    while applied(database) == before:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the projection does nothing"
    process.kill()
    process.communicate()
    return applied(database)


def test_a_projection_that_is_killed_again_and_again_counts_each_fact_once(topics: tuple[str, ...], kafka: str, tmp_path: Path) -> None:
    assert "sre.incident.facts.v1" in topics
    database = tmp_path / "incidents.sqlite"
    stored = []
    for first in range(0, INCIDENTS, AT_ONCE):
        for _ in range(2):
            write(kafka, range(first, first + AT_ONCE))
        stored.append(kill_on_the_way(kafka, database))
    assert stored == sorted(set(stored))

    open_ = Counter(f"service-{number % SERVICES}" for number in range(INCIDENTS) if number % len(LIVES) in (0, 3))
    assert counts(kafka, database) == open_
    assert versions(database) == {incident_id(number): len(facts_of(number)) for number in range(INCIDENTS)}

    write(kafka, range(INCIDENTS), tomorrow=True)
    assert counts(kafka, database) == {}
    assert versions(database) == {incident_id(number): len(facts_of(number)) + 2 for number in range(INCIDENTS)}


def test_following_prints_changes_until_it_is_asked_to_end(topics: tuple[str, ...], kafka: str, tmp_path: Path) -> None:
    assert "sre.incident.facts.v1" in topics
    with transaction(kafka) as producer:
        write_fact(producer, 1, facts_of(0)[0], aggregate="incident", aggregate_id=incident_id(0))
    process = start(kafka, tmp_path / "incidents.sqlite", "--follow")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline()) == {"tenant": "acme", "service": "service-0", "open": 1}
    process.terminate()
    _, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, errors) == (0, "")


def test_a_gap_ends_the_projection_with_one_line(topics: tuple[str, ...], kafka: str, tmp_path: Path) -> None:
    assert "sre.incident.facts.v1" in topics
    with transaction(kafka) as producer:
        for version, fact in ((1, facts_of(0)[0]), (3, RESOLVED)):
            write_fact(producer, version, fact, aggregate="incident", aggregate_id=incident_id(0))
    process = start(kafka, tmp_path / "incidents.sqlite")
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert errors.splitlines() == [errors.strip()]
    assert f"version 3 of incident acme/{incident_id(0)} follows 1" in errors
