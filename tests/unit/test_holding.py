"""Waiting for the schema registry: what waits holds back its own partition, in its order, and nothing else."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from worker.holding import MOST_HELD, Asker, decide_and_hold
from worker.pipeline import Unseen
from worker.registry import RegistryAwayError, WriterIds
from worker.signs import Signs

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from worker.envelope import Record


@dataclass
class Event:
    partition: int
    offset: int
    schema_id: int | None
    acked: list[tuple[int, int]]
    message: Any = field(init=False)

    def __post_init__(self) -> None:
        value = b"" if self.schema_id is None else self.schema_id.to_bytes(4, "big")
        self.message = SimpleNamespace(
            topic="t", partition=self.partition, offset=self.offset, timestamp=0.0, key=b"k", value=value, headers=[]
        )

    def ack(self) -> None:
        self.acked.append((self.partition, self.offset))


@dataclass
class Bus:
    """A topic, a registry, and what became of records: `known` ids are decided, those that are asked in vain are refused."""

    known: set[int] = field(default_factory=set)
    answers: dict[int, bool] = field(default_factory=dict)
    acked: list[tuple[int, int]] = field(default_factory=list)
    refused: list[tuple[int, int]] = field(default_factory=list)
    asked: list[list[int]] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    waiting: asyncio.Queue[Any] = field(default_factory=lambda: asyncio.Queue(10_000))
    there: asyncio.Event = field(default_factory=asyncio.Event)
    ends: dict[int, int] = field(default_factory=dict)

    def send(self, partition: int, *schema_ids: int | None) -> None:
        for schema_id in schema_ids:
            offset = self.ends.get(partition, 0)
            self.ends[partition] = offset + 1
            self.waiting.put_nowait(Event(partition, offset, schema_id, self.acked))

    async def ask(self, schema_ids: Collection[int]) -> Collection[int]:
        self.asked.append(list(schema_ids))
        await self.there.wait()
        self.known |= {one for one in schema_ids if self.answers.get(one)}
        return {one for one in schema_ids if not self.answers.get(one)}

    async def process(self, records: Sequence[Record], /, *, missing: Collection[int]) -> Unseen:
        self.batches.append(len(records))
        first: dict[int, int] = {}
        ids: dict[int, list[int]] = {}
        for record in records:
            schema_id = int.from_bytes(record.value or b"", "big") if record.value else None
            if schema_id is not None and schema_id not in self.known and schema_id not in missing:
                first.setdefault(record.partition, record.offset)
                ids.setdefault(record.partition, []).append(schema_id)
            elif schema_id in missing and record.partition not in first:
                self.refused.append((record.partition, record.offset))
        await asyncio.sleep(0)
        return Unseen(first, ids)


def run(scenario: Callable[[Bus], Any], max_intents: int = 500) -> Bus:
    async def play() -> Bus:
        bus = Bus()
        task = asyncio.create_task(decide_and_hold(bus.waiting, bus.process, max_intents, bus.ask))
        await scenario(bus)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return bus

    return asyncio.run(play())


async def turns(count: int = 300) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def turns_until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - to stop at that very turn
        await asyncio.sleep(0)


def test_only_the_partition_of_an_unseen_id_waits_and_then_goes_on_in_its_order() -> None:
    async def scenario(bus: Bus) -> None:
        bus.answers = {7: True}
        bus.send(0, None, 7, None)
        bus.send(1, None, None)
        await turns()
        bus.send(0, None)
        bus.send(1, None)
        await turns()
        assert sorted(bus.acked) == [(0, 0), (1, 0), (1, 1), (1, 2)]
        bus.there.set()
        await turns()

    bus = run(scenario)
    assert [offset for partition, offset in bus.acked if partition == 0] == [0, 1, 2, 3]
    assert bus.asked == [[7]]
    assert bus.refused == []


def test_no_such_id_counts_for_the_records_that_had_come_when_it_was_asked() -> None:
    async def scenario(bus: Bus) -> None:
        bus.send(0, 7)
        await turns()
        bus.send(0, 7)  # comes behind it, after the question
        bus.send(1, 7)
        await turns()
        bus.answers = {}
        bus.there.set()
        await turns_until(lambda: bool(bus.refused))
        bus.answers = {7: True}  # and now it is registered
        await turns()

    bus = run(scenario)
    assert bus.refused == [(0, 0)]
    assert sorted(bus.acked) == [(0, 0), (0, 1), (1, 0)]


def test_a_flood_of_made_up_ids_does_not_keep_others_from_their_turn() -> None:
    async def scenario(bus: Bus) -> None:
        bus.there.set()
        bus.answers = {9: True}
        bus.send(0, *range(1000, 2000))
        bus.send(1, 9)
        await turns_until(lambda: (1, 0) in bus.acked)

    bus = run(scenario)
    assert len(bus.acked) < 500, "half of the flood is still there"
    assert max(map(len, bus.asked)) <= 50
    assert max(bus.batches) <= 500


def test_what_takes_several_questions_keeps_its_order() -> None:
    ids = range(100, 260)

    async def scenario(bus: Bus) -> None:
        bus.answers = dict.fromkeys(ids, True)
        bus.send(0, *ids)
        await turns()
        bus.send(0, None, None)
        bus.there.set()
        await turns()

    bus = run(scenario)
    assert [offset for _, offset in bus.acked] == list(range(len(ids) + 2))
    assert len(bus.asked) == 4


def test_what_is_held_in_memory_is_bounded() -> None:
    async def scenario(bus: Bus) -> None:
        bus.send(0, 7, *[None] * (MOST_HELD + 1_000))
        await turns(20_000)

    bus = run(scenario, max_intents=100)
    assert bus.waiting.qsize() > 500, "the rest stays where Faust counts it"
    assert bus.acked == []


def test_a_registry_that_is_away_stands_in_the_signs_until_it_answers() -> None:
    signs, away = Signs(), [True]

    def text_of(_: int) -> str | None:
        if away[0]:
            raise RegistryAwayError("the schema registry does not answer: ConnectError")
        return None

    async def scenario() -> Collection[int]:
        asker = Asker(WriterIds(text_of, set()), signs)
        asking = asyncio.create_task(asker.ask([5]))
        await turns_until(lambda: bool(signs.outages))
        assert "ConnectError" in next(iter(signs.outages.values()))
        away[0] = False
        return await asking

    assert asyncio.run(scenario()) == {5}
    assert signs.outages == {}
    assert signs.steps >= 2, "a worker that waits does not stand still"
