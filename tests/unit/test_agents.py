"""Batches without a timer, acknowledgements after the work, and an end of the process where going on would lose records."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from worker import agents
from worker.agents import take_intents

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import pytest

    from worker.agents import Process
    from worker.envelope import Record


@dataclass
class Event:
    offset: int
    log: list[str]
    message: Any = field(init=False)

    def __post_init__(self) -> None:
        self.message = SimpleNamespace(
            topic="t", partition=0, offset=self.offset, timestamp=1764000000.001, key=b"k", value=b"v", headers=[("h", b"x")]
        )

    def ack(self) -> None:
        self.log.append(f"ack {self.offset}")


@dataclass
class FakeStream:
    """Hands over one event a turn of the loop, as Faust's does, then waits for ever."""

    count: int
    log: list[str]
    enable_acks: bool = True

    async def events(self) -> AsyncIterator[Event]:
        for offset in range(self.count):
            await asyncio.sleep(0)
            yield Event(offset, self.log)
        await asyncio.Event().wait()


async def run(count: int, max_intents: int, process: Process, log: list[str]) -> FakeStream:
    stream = FakeStream(count, log)
    task = asyncio.create_task(take_intents(stream, process, max_intents))  # type: ignore[arg-type]
    for _ in range(200):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return stream


def test_a_batch_is_all_that_is_there_and_no_more_than_allowed() -> None:
    log: list[str] = []

    async def process(records: Sequence[Record]) -> None:
        log.append(f"batch of {len(records)}")

    stream = asyncio.run(run(25, 10, process, log))
    assert [line for line in log if line.startswith("batch")] == ["batch of 10", "batch of 10", "batch of 5"]
    assert stream.enable_acks is False


def test_records_are_acknowledged_in_order_once_their_batch_is_done() -> None:
    log: list[str] = []

    async def process(records: Sequence[Record]) -> None:
        log.append(f"begin {records[0].offset}")
        await asyncio.sleep(0)
        log.append(f"commit {records[0].offset}")

    asyncio.run(run(4, 2, process, log))
    assert log == ["begin 0", "commit 0", "ack 0", "ack 1", "begin 2", "commit 2", "ack 2", "ack 3"]


def test_what_was_taken_but_not_committed_is_never_acknowledged() -> None:
    log: list[str] = []

    async def process(_: Sequence[Record]) -> None:
        await asyncio.Event().wait()

    asyncio.run(run(4, 2, process, log))
    assert log == []


def test_an_error_that_nothing_handled_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    statuses: list[int] = []

    def leave(status: int) -> None:
        statuses.append(status)
        raise asyncio.CancelledError

    monkeypatch.setattr(os, "_exit", leave)
    log: list[str] = []

    async def process(_: Sequence[Record]) -> None:
        raise ZeroDivisionError

    asyncio.run(run(1, 1, process, log))
    assert statuses == [agents.EXIT_SOFTWARE]
    assert log == []


def test_a_record_is_what_the_broker_holds() -> None:
    record = agents.to_record(Event(7, []))  # type: ignore[arg-type]
    assert record == ("t", 0, 7, 1764000000001, b"k", b"v", [("h", b"x")])
