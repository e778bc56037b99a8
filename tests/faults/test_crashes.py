"""kill -9 in the middle of the work, seen from outside: each intent one outcome, each fact once and in order, the row its fold.

The breaks at the end prove that the audit can fail. CRASH_RUNS repeats the crashes (`make soak N=20`).
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from tests.support.records import CODEC, create
from tests.support.system import System, running_system
from worker.client import Intent, Outgoing, to_outgoing
from worker.domain.aggregate import intent_name
from worker.domain.slo import RecordSLIWindow, UpdateSLO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from worker.domain.slo import Command

CRASH_RUNS = int(os.environ.get("CRASH_RUNS", "1"))
SLOS = 40


def workload(count: int) -> tuple[list[Outgoing], int]:
    """Intents of every kind of fate, and how many outcomes they come to: one each, but for the repeats."""
    now = datetime.now(UTC)
    first = now.replace(minute=0, second=0, microsecond=0) - timedelta(days=3)
    records: list[Outgoing] = []
    valid: list[Outgoing] = []
    updates: list[Outgoing] = []
    repeats = 0

    def add(command: Command, slo_id: str) -> None:
        intent = Intent(intent_name(type(command)), "acme", slo_id, command, "/tests", time=now, intent_id=f"intent-{len(records)}")
        valid.append(to_outgoing(intent, CODEC))
        records.append(valid[-1])

    for number in range(SLOS):
        add(create(), f"slo-{number}")
    number = 0
    while len(records) < count:
        minute, slo = divmod(number, SLOS)
        slo_id = f"slo-{slo}"
        number += 1
        if number % 97 == 0:  # each to a target of its own and few SLOs in turn, so that deciding an old one again shows
            definition = {name: getattr(create(), name) for name in UpdateSLO.__dataclass_fields__ if name != "expected_version"}
            add(UpdateSLO(**{**definition, "target": Decimal(98) + Decimal(number).scaleb(-6)}), f"slo-{number // 97 % 4}")
            updates.append(valid[-1])
        elif number % 101 == 0:
            records.append(replace(valid[-1], value=b"garbage"))  # its id was used by the one before
        elif number % 89 == 0:
            add(RecordSLIWindow(start=first, width_seconds=90, good=1, total=1), slo_id)
        add(RecordSLIWindow(start=first + timedelta(minutes=minute), width_seconds=60, good=98 + minute % 3, total=100), slo_id)
        if number % 50 == 0 and updates:  # of the one before, and of one long before
            records += [valid[-1], updates[len(updates) // 2]]
            repeats += 2
    return records, len(records) - repeats


@pytest.fixture
def system(kafka: str, database: str, topics: tuple[str, ...], tmp_path: Path) -> Iterator[System]:  # noqa: ARG001 - made, then used by name
    with running_system(kafka, database, tmp_path) as running:
        yield running


@pytest.mark.timeout(600)
@pytest.mark.parametrize("run", range(CRASH_RUNS))
def test_crash_of_worker_and_relay_twice_each_loses_and_doubles_nothing(system: System, run: int) -> None:  # noqa: ARG001 - a number
    records, outcomes = workload(20_000)
    publishing = threading.Thread(target=system.publish, args=(records,))
    publishing.start()
    running = {name: system.start(name) for name in ("worker", "relay")}
    for step, name in enumerate(("worker", "relay", "worker", "relay"), start=1):
        system.wait_for_outcomes(outcomes * step // 5)
        system.kill(running[name])
        running[name] = system.start(name)
    publishing.join()
    system.wait_for_outcomes(outcomes)
    system.wait_until_published()
    assert system.count("inbox") == outcomes
    assert system.breaches() == []
    assert system.breaches(system.seen) == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("run", range(CRASH_RUNS))
def test_crash_and_coming_and_going_of_two_workers_loses_and_doubles_nothing(system: System, run: int) -> None:  # noqa: ARG001 - a number
    records, outcomes = workload(12_000)
    system.publish(records)
    system.start("relay")
    first = system.start("worker")
    system.wait_for_outcomes(outcomes // 5)
    second = system.start("worker")  # takes over half of the partitions while the first is busy
    system.wait_for_outcomes(outcomes * 2 // 5)
    first.terminate()
    system.wait_for_outcomes(outcomes * 3 // 5)
    system.start("worker")
    system.wait_for_outcomes(outcomes * 4 // 5)
    system.kill(second)
    system.wait_for_outcomes(outcomes)
    system.wait_until_published()
    assert first.wait(15) == 0
    assert system.breaches() == []
    assert system.breaches(system.seen) == []


def test_break_without_dedupe_is_seen(system: System) -> None:
    records, _ = workload(3_000)
    system.publish(records)
    system.start("worker", broken="no_dedupe")
    system.start("relay")
    wait_until_all_came(system, records)
    assert any(breach.startswith("2: ") for breach in system.breaches())


def wait_until_all_came(system: System, records: list[Outgoing]) -> None:
    """A record of no use goes behind all others of each partition: once it has its outcome, whatever has none is lost."""
    system.publish([replace(record, headers=()) for record in records[:SLOS]])
    system.wait_for_outcomes(SLOS, where="code = 'TENANT_REQUIRED'")
    system.wait_until_published()


def test_break_with_acknowledgement_first_is_seen(system: System) -> None:
    records, _ = workload(4_000)
    system.publish(records)
    worker = system.start("worker", broken="ack_first")
    system.start("relay")
    system.wait_for_outcomes(1_000)
    time.sleep(0.5)  # into the gap between an acknowledgement and its commit, which this break has made a second long
    system.kill(worker)
    system.start("worker")
    wait_until_all_came(system, records)
    assert any(breach.startswith("1: no outcome") for breach in system.breaches())


def test_break_with_the_commit_lsn_is_seen(system: System) -> None:
    records, outcomes = workload(1_000)
    system.publish(records)
    system.start("worker")
    assert system.start("relay", broken="commit_lsn").wait(60) == 9
    system.start("relay")
    system.wait_for_outcomes(outcomes)
    system.wait_until_published()
    assert any("publications of one id" in breach for breach in system.breaches())
