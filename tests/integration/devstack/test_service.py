"""Starting again what has ended."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from worker.devstack import service
from worker.devstack.processes import DevStackError, launch, stop
from worker.devstack.service import Running, Service

if TYPE_CHECKING:
    from pathlib import Path


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(service, "time", clock)
    return clock


def failing(log: Path) -> Service:
    def start() -> Running:
        process = launch(["sh", "-c", "echo 'error: no disk'; exit 3"], log)
        process.wait()
        return Running(process, partial(stop, process))

    return Service("the store", log, start)


def test_one_that_keeps_ending_is_started_after_ever_longer_pauses_with_a_line_each(tmp_path: Path, clock: Clock) -> None:
    store, said = failing(tmp_path / "log"), list[str]()
    store.begin()
    for pause in (1, 2, 4, 8, 16, 30, 30):
        store.tend(said.append)
        assert said == [f"the store ended with status 3: error: no disk; starting it again in {pause} s (see {tmp_path / 'log'})"]
        clock.now += pause - 0.1
        store.tend(said.append)
        assert len(said) == 1
        clock.now += 0.1
        store.tend(said.append)
        assert said.pop() == "the store is running again"
        said.clear()


def test_one_that_ran_for_long_begins_with_a_short_pause_again(tmp_path: Path, clock: Clock) -> None:
    store, said = failing(tmp_path / "log"), list[str]()
    store.begin()
    store.failures = 4
    clock.now += 61
    store.tend(said.append)
    assert "starting it again in 1 s" in said[0]


def test_one_that_cannot_be_started_again_is_tried_later(tmp_path: Path, clock: Clock) -> None:
    store, said = failing(tmp_path / "log"), list[str]()
    store.begin()
    store.tend(said.append)

    def refuse() -> Running:
        raise DevStackError("no port")

    store.start = refuse
    for pause in (2, 4):
        clock.now += pause
        store.tend(said.append)
        assert said[-1] == f"no port; starting it again in {pause} s"
    store.stop()


def test_stopping_ends_the_process(tmp_path: Path) -> None:
    process = launch(["sleep", "600"], tmp_path / "log")
    sleeper = Service("the sleeper", tmp_path / "log", lambda: Running(process, partial(stop, process)))
    sleeper.begin()
    sleeper.stop()
    assert process.returncode is not None
