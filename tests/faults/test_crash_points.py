"""Worker and relay killed at every step of their work, one after the other: what is left is all or nothing, and the next one goes on.

build/crash-points.json has what each kill left behind.
"""

from __future__ import annotations

import ast
import inspect
import os
import select
import subprocess
import sys
import textwrap
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import TYPE_CHECKING, Final

import psycopg
import pytest

from tests.faults import stopped_at
from tests.faults.crash_points import APART, END_TXN, FAULTY, JOINT, NO_SLOT, POINTS, REFUSED, RELAY, STANDBY, WORKER
from tests.support.records import CODEC, create
from tests.support.refusals import alert_id, created, firing, incident_id
from tests.support.results import record_result
from tests.support.system import System, environment_of, running_system
from worker.client import Intent, Outgoing, to_outgoing
from worker.domain.aggregate import intent_name
from worker.domain.incident_messages import AddIncidentTimelineEntry, CorrelateAlertsToIncident
from worker.domain.slo import RecordSLIWindow, UpdateSLO
from worker.partitioner import partition_of
from worker.postgres.named_sql import statements
from worker.postgres.unit_of_work import UnitOfWork
from worker.relay.relay import begin, relay, relay_groups
from worker.topics import PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.faults.crash_points import CrashPoint

NOW: Final = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
NUMBERS: Final = count()
LOADS: Final = count()
SESSION_SECONDS: Final = 0.5  # the next worker waits so long for the dead one's partitions
STEPS: Final = {point.step for points in POINTS.values() for point in points.values()}

READS_OF_OTHERS: Final = {"all_rows", "whole_ledger", "all_entries"}
"""Statements that no batch makes."""

ANSWERS: Final = {"positions.fetchall", "outcomes.fetchall", "(await inbox.find_outcomes(self.connection, intents)).fetchall"}
"""What find awaits besides its statements."""

HARMLESS: Final = {
    "Link",
    "PlaceLostError",
    "UsurpedError",
    "Watermark",
    "_is_fenced",
    "begin",
    "closing",
    "confirmable_lsn",
    "encode",
    "holds_slot",
    "is_in_doubt",
    "key_of",
    "librdkafka_config",
    "link.observer.tell",
    "link.publisher.check_connection",
    "link.stream.keep_informed",
    "link.stream.wait",
    "link.waiting.status.turn",
    "link.waiting.stop.is_set",
    "publish_pending",
    "published_up_to",
    "publisher.outlived_transaction",
    "refuse_lost_topics",
    "replace",
    "relay_groups",
    "settle",
    "topic_ids",
    "waiting.doing",
    "waiting.for_call",
    "waiting.status.enter",
}
"""What a life of the relay calls and that changes nothing outside, or is taken apart in other points (publish_pending) or another test
(settle, tests/integration/relay/test_hanging.py)."""

RELAY_STEPS: Final = {
    "Publisher": "worker.relay.publisher.Publisher.fence",
    "end_hanging": "worker.relay.hanging.end_hanging",
    "identity_of": "worker.relay.replication.identity_of",
    "link.publisher.commit": "worker.relay.publisher.Publisher.commit",
    "link.stream.confirm": "worker.relay.replication.ReplicationStream.confirm",
    "publisher.fence": "worker.relay.publisher.Publisher.fence",
    "read_committed": "worker.relay.watermark.read_committed",
    "stream.confirm": "worker.relay.replication.ReplicationStream.confirm",
    "take_slot": "worker.relay.slot.take_slot",
}


def calls_in(function: Callable[..., object], node: type[ast.Await | ast.Call]) -> set[str]:
    """What the function calls, or awaits, as its source has it."""
    calls = [found.value if isinstance(found, ast.Await) else found for found in ast.walk(source_of(function)) if isinstance(found, node)]
    return {ast.unparse(call.func) for call in calls if isinstance(call, ast.Call)}


def source_of(function: Callable[..., object]) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


@pytest.mark.parametrize("step", sorted(step for step in STEPS if not step.startswith(("sql:", "kafka:"))))
def test_step_is_a_function(step: str) -> None:
    stopped_at.resolve(step)


def test_every_statement_of_a_batch_has_its_point() -> None:
    files = ("inbox", "outbox", "slo", "alert", "incident")
    made = {f"sql:{file}.{name}" for file in files for name in statements(file).keys() - READS_OF_OTHERS}
    assert made - STEPS == set()
    assert {step for step in STEPS if step.startswith("sql:")} - made == {"sql:relay.keep_slot"}


def test_every_step_of_a_unit_of_work_has_its_point() -> None:
    awaited = set.union(*(calls_in(function, ast.Await) for function in (UnitOfWork.find, UnitOfWork.outcomes_of, UnitOfWork.save)))
    assert awaited - ANSWERS == {
        "inbox.see_tenants",
        "inbox.lock_positions",
        "inbox.lock_intents",
        "inbox.find_outcomes",
        "self.storages[name].lock",
        "self.storages[name].save",
        "outbox.insert",
        "inbox.insert",
        "inbox.advance_positions",
        "self.connection.commit",
    }, "a step of the unit of work is new or gone: give it its crash point"


def test_every_step_of_the_relay_has_its_point() -> None:
    called = calls_in(relay, ast.Call) | calls_in(begin, ast.Call) | calls_in(relay_groups, ast.Call)
    assert called - HARMLESS - RELAY_STEPS.keys() == set(), "a step of the relay is new: give it its crash point, or call it harmless"
    assert set(RELAY_STEPS.values()) - STEPS == set()
    assert END_TXN in STEPS


@pytest.fixture
def system(kafka: str, database: str, topics: tuple[str, ...], tmp_path: Path) -> Iterator[System]:  # noqa: ARG001 - made, then used by name
    with running_system(kafka, database, tmp_path) as running:
        running.settings = running.settings.model_copy(update={"session_timeout_seconds": SESSION_SECONDS})
        yield running


@pytest.mark.timeout(600)
def test_worker_killed_at_every_step_loses_and_doubles_nothing(system: System) -> None:
    system.start("relay")
    due = decide(system, [*slos(), *(record for number in range(len(WORKER)) for record in aged_slo(number))], 0)
    for point in WORKER:
        due = walk_worker(system, point, slo_load(), due)
    entry = AddIncidentTimelineEntry(kind="note", text="?", occurred_at=NOW, actor="ann")
    apart = ask(firing("new"), alert_id("new")), ask(created(), incident_id("new")), ask(entry, incident_id("new"))
    for point, record in zip(APART, apart, strict=True):
        due = walk_worker(system, point, [record], due)
        due = decide(system, [garbage()], due)  # else two aggregates' batches are in hand at once
    alerts = [ask(firing(f"disk-{number}"), alert_id(f"disk-{number}")) for number in range(len(JOINT))]
    incidents = [ask(created(), incident_in_one_partition(number)) for number in range(len(JOINT))]
    due = decide(system, [*alerts, *incidents], due)
    for number, point in enumerate(JOINT):
        claim = CorrelateAlertsToIncident(alert_ids=(alert_id(f"disk-{number}"),), actor="ann")
        due = walk_worker(system, point, [ask(claim, incident_in_one_partition(number))], due)
    for point in REFUSED:
        due = walk_worker(system, point, [garbage()], due)
    for point in FAULTY:
        due = decide(system, [window(in_one_partition("kept", 0))], due)  # a batch at fault is decided record by record: leave it one
        due = walk_worker(system, point, [window(in_one_partition("kept", 0))], due)
    due = decide(system, slo_load(), due)
    system.wait_until_published()
    assert system.count("inbox") == due
    assert system.breaches() == []
    assert system.breaches(system.seen) == []


@pytest.mark.timeout(600)
def test_relay_killed_at_every_step_loses_and_doubles_nothing(system: System) -> None:
    with psycopg.connect(system.settings.relay_dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_drop_replication_slot(%s)", [system.settings.relay_slot])
    for point in NO_SLOT:
        killed(system, "relay", point)
        record_result("crash-points.json", f"relay: {point.name}", {"killed": True, "left": "nothing"})
    system.start("worker")
    due = 0
    for point in RELAY:
        records = [*slos(), window(in_one_partition("kept", 0))] if not due else [window(in_one_partition("kept", 0)) for _ in range(5)]
        due += len(records)
        system.publish(records)
        system.wait_for_outcomes(due)
        walk_relay(system, point)
    system.publish([window(in_one_partition("kept", 0))])
    system.wait_for_outcomes(due + 1)
    system.start("relay")
    system.wait_until_published()
    for point in STANDBY:
        killed(system, "relay", point)
        record_result("crash-points.json", f"relay: {point.name}", {"killed": True, "left": "nothing"})
    system.wait_until_published()
    assert system.breaches() == []
    assert system.breaches(system.seen) == []


def walk_worker(system: System, point: CrashPoint, load: Sequence[Outgoing], due: int) -> int:
    """Kill a worker that has this load, and all that earlier ones left, in hand; gives how many outcomes are due by now."""
    due += len(load)
    system.publish(load)
    before = system.count("inbox")
    killed(system, "worker", point)
    after = system.count("inbox")
    left = "nothing" if after == before else "everything" if after == due else f"{after - before} of {due - before} outcomes"
    assert left in ({"nothing", "everything"} if point.leaves == "either" else {point.leaves}), point
    record_result("crash-points.json", f"worker: {point.name}", {"killed": True, "left": left})
    return due


def walk_relay(system: System, point: CrashPoint) -> None:
    """Kill a relay that has rows in hand."""
    before, there = len(system.seen), system.count("outbox")
    killed(system, "relay", point)
    if point.leaves == "everything":
        system.wait_until_published()
    after = len(system.seen)
    left = "nothing" if after == before else "everything" if after == there else f"{after - before} of {there - before} records"
    assert left in ({"nothing", "everything"} if point.leaves == "either" else {point.leaves}), point
    record_result("crash-points.json", f"relay: {point.name}", {"killed": True, "left": left})


def killed(system: System, command: str, point: CrashPoint) -> None:
    """Start the command and see it die by its own hand at that point."""
    log = system.log("crash points")
    launcher = next((process for process in system.processes if process.stdin), None) or start_launcher(system)
    assert launcher.stdin is not None
    assert launcher.stdout is not None
    launcher.stdin.write(f"{command}: {point.name}\n".encode())
    launcher.stdin.flush()
    ended, _, _ = select.select([launcher.stdout], [], [], 60)
    assert ended, f"not within 60 s: killed at: {point.name} {log.read_text()[-3000:]}"
    assert launcher.stdout.readline() == b"-9\n", log.read_text()[-3000:]
    assert log.read_text().splitlines()[-1] == f"killed at: {point.name}"


def start_launcher(system: System) -> subprocess.Popen[bytes]:
    with system.log("crash points").open("ab") as log:
        environment = {**os.environ, **environment_of(system.settings)}
        command = [sys.executable, stopped_at.__file__]
        system.processes.append(subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log))
    return system.processes[-1]


def decide(system: System, records: Sequence[Outgoing], due: int) -> int:
    """A worker in good health decides these records and all that was left; gives how many outcomes are due by now."""
    due += len(records)
    system.publish(records)
    worker = system.start("worker")
    system.wait_for_outcomes(due)
    worker.terminate()
    assert worker.wait(20) == 0
    return due


def ask(command: object, aggregate_id: str) -> Outgoing:
    return to_outgoing(Intent(intent_name(type(command)), "acme", aggregate_id, command, "/tests", f"crash-{next(NUMBERS)}"), CODEC)


def in_one_partition(name: str, number: int) -> str:
    """An aggregate id whose intents lie in partition 0 with the others: so they are fetched, and decided, together."""
    return next(found for salt in count() if partition_of((found := f"{name}-{number}-{salt}").encode(), PARTITIONS) == 0)


def incident_in_one_partition(number: int) -> str:
    return next(found for salt in count() if partition_of((found := incident_id(f"{number} {salt}")).encode(), PARTITIONS) == 0)


def slos() -> list[Outgoing]:
    return [ask(create(), in_one_partition("kept", number)) for number in range(2)]


def aged_slo(number: int) -> list[Outgoing]:
    """One that has counted a window that the next one pushes out of the ledger."""
    aged = in_one_partition("aged", number)
    return [ask(create(), aged), ask(RecordSLIWindow(start=NOW - timedelta(days=32), width_seconds=60, good=99, total=100), aged)]


def window(slo_id: str) -> Outgoing:
    return ask(RecordSLIWindow(start=NOW - timedelta(minutes=1 + next(NUMBERS)), width_seconds=60, good=99, total=100), slo_id)


def garbage() -> Outgoing:
    return replace(window(in_one_partition("kept", 0)), value=b"garbage")


def slo_load() -> list[Outgoing]:
    """Something for each statement: a new SLO, a new definition, a window that drops an old one, and a refusal."""
    number = next(LOADS)
    definition = {name: getattr(create(), name) for name in UpdateSLO.__dataclass_fields__ if name != "expected_version"}
    update = UpdateSLO(**{**definition, "target": Decimal(98) + Decimal(number).scaleb(-6)})
    new = in_one_partition("new", number)
    return [
        ask(create(), new),
        window(new),
        ask(update, in_one_partition("kept", 0)),
        window(in_one_partition("kept", 1)),
        window(in_one_partition("aged", number)),
        garbage(),
    ]
