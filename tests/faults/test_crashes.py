"""kill -9 in the middle of the work, seen from outside: each intent one outcome, each fact once and in order, the row its fold.

CRASH_RUNS repeats the crashes (`make crashes N=20`).
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from tests.faults.workload import workload
from tests.support.system import System, running_system

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CRASH_RUNS = int(os.environ.get("CRASH_RUNS", "1"))


@pytest.fixture
def system(kafka: str, database: str, topics: tuple[str, ...], tmp_path: Path) -> Iterator[System]:  # noqa: ARG001 - made, then used by name
    with running_system(kafka, database, tmp_path) as running:
        yield running


@pytest.mark.timeout(600)
@pytest.mark.parametrize("run", range(CRASH_RUNS))
def test_crash_of_worker_and_relay_twice_each_loses_and_doubles_nothing(system: System, run: int) -> None:  # noqa: ARG001 - a number
    records, outcomes = workload(12_000)
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
