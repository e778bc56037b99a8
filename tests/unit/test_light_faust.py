"""A hand-over that needs no wait is made at once; one that blocks can be interrupted as Faust would."""

from __future__ import annotations

import asyncio
from functools import partial
from types import SimpleNamespace
from typing import Any

import faust
import faust.transport.consumer
import pytest
from faust.types import TP
from mode.utils.locks import Event

from worker.light_faust import QuickConsumer, RawSchema, lighten


class Waiter(QuickConsumer):
    """Only what wait_first needs of a consumer."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stopped = Event()
        self._crashed = Event()


async def value_of(value: str, *waits: Any) -> str:  # noqa: ANN401 - anything awaitable
    for wait in waits:
        await (wait() if callable(wait) else wait)
    return value


def run(scenario: Any) -> Any:  # noqa: ANN401
    return asyncio.run(scenario())


def test_what_does_not_block_is_done_without_a_turn_of_the_loop() -> None:
    async def scenario() -> None:
        turns: list[int] = []
        asyncio.get_running_loop().call_soon(turns.append, 1)
        results = await Waiter().wait_first(value_of("handed over"), asyncio.Event().wait())
        assert results.results == ["handed over"]
        assert turns == []

    run(scenario)


def test_what_blocks_goes_on_when_it_can() -> None:
    async def scenario() -> None:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(gate.set_result, None)
        results = await Waiter().wait_first(
            value_of("late", gate, partial(asyncio.sleep, 0), partial(asyncio.sleep, 0.001)), asyncio.Event().wait()
        )
        assert results.results == ["late"]

    run(scenario)


def test_what_blocks_is_given_up_when_the_flow_is_suspended() -> None:
    async def scenario() -> None:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        suspend = asyncio.Event()
        asyncio.get_running_loop().call_soon(suspend.set)
        results = await Waiter().wait_first(value_of("never", gate), suspend.wait())
        assert results.results == [True]
        await asyncio.sleep(0)
        assert gate.cancelled()

    run(scenario)


def test_an_error_of_the_hand_over_is_raised_before_and_after_a_wait() -> None:
    async def fail(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        raise ZeroDivisionError

    async def scenario() -> None:
        for turns in (0, 2):
            with pytest.raises(ZeroDivisionError):
                await Waiter().wait_first(fail(turns), asyncio.Event().wait())

    run(scenario)


def test_reading_goes_on_as_soon_as_a_full_buffer_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    partition = TP("sre.slo.intents.v1", 0)
    quiet = TP("sre.incident.intents.v1", 0)
    reads: list[set[TP]] = []
    waits: list[float] = []

    async def read(self: Waiter, timeout: float) -> None:  # noqa: ASYNC109 - as Faust has it
        reads.append(set(self._get_active_partitions()))
        waits.append(timeout)

    monkeypatch.setattr(faust.transport.consumer.Consumer, "_wait_next_records", read)

    async def scenario() -> None:
        consumer = Waiter()
        consumer._room, consumer._active_partitions, consumer._buffered_partitions = Event(), set(), {partition}
        reading = asyncio.create_task(consumer._wait_next_records(1.0))
        for _ in range(10):
            await asyncio.sleep(0)
        assert reads == []
        consumer.on_buffer_drop(partition)
        await asyncio.wait_for(reading, 0.5)
        assert reads == [{partition}]

        await consumer._wait_next_records(1.0)
        assert waits[-1] == 1.0
        consumer._active_partitions, consumer._buffered_partitions = {quiet}, {partition}
        await consumer._wait_next_records(1.0)
        assert reads[-1] == {quiet}
        assert waits[-1] < 0.1  # the quiet one must not hold up the other

    run(scenario)


def test_an_event_carries_its_message_undecoded() -> None:
    app = faust.App("raw", store="memory://")
    message = SimpleNamespace(key=b"\xff", value=b"\xff", headers=[("a", b"1"), ("a", b"2")], tp=None)
    event = asyncio.run(RawSchema().compile(app)(message, propagate=True))
    assert event.message is message


def test_what_was_acknowledged_is_committed_before_faust_forgets_it() -> None:
    """Also what is acknowledged while that commit is under way."""
    first, other = TP("sre.slo.intents.v1", 0), TP("sre.slo.intents.v1", 1)
    committed: list[dict[TP, int]] = []

    async def scenario() -> None:
        app = faust.App("test", broker="kafka://127.0.0.1:1", store="memory://")
        lighten(app)
        consumer: Any = app.consumer

        async def commit(offsets: dict[TP, int]) -> bool:
            if not committed:
                consumer._acked[first].append(12)
            committed.append(offsets)
            return True

        async def forgotten(_revoked: set[TP]) -> None:
            committed.append({})

        async def flush() -> None:
            pass

        app.producer.flush = flush  # type: ignore[method-assign]
        consumer._commit, consumer._on_partitions_revoked = commit, forgotten
        consumer.assignment = lambda: {first, other}
        consumer._acked[first], consumer._acked[other] = [10, 11], []
        await consumer.on_partitions_revoked({first, other})
        assert not consumer._acked[first]

    run(scenario)
    assert committed == [{first: 12}, {first: 13}, {}]
