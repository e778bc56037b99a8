"""Records that wait for the schema registry: they hold back what lies behind them in their partitions, and nothing else.

A worker asks about one id at a time, and at most about a hundred in a second: a flood of made-up ids slows down its own partitions, and not
the registry. "There is no such id" counts for the records that had come when it was asked, and is then forgotten: a schema may be
registered under it at any time, and whoever guesses ids can't have it refused.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from worker.agents import MAX_BATCH_BYTES, exit_on_error, take_batch, to_record
from worker.registry import RegistryAwayError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Sequence

    from faust.types import EventT

    from worker.agents import Waiting
    from worker.envelope import Record
    from worker.pipeline import Unseen
    from worker.registry import WriterIds
    from worker.signs import Signs

    Event = EventT[Any]
    Ask = Callable[[Collection[int]], Coroutine[None, None, Collection[int]]]

_LOG = logging.getLogger(__name__)

_SECONDS_BETWEEN_QUESTIONS: Final = 0.01
_MOST_AT_ONCE: Final = 50
_LONGEST_PAUSE_SECONDS: Final = 2.0
MOST_HELD: Final = 5_000
"""Records of a topic that wait, as do at most MAX_BATCH_BYTES of values: with more the whole topic does."""


class Process(Protocol):
    """worker.recovery.process_reliably() for one topic."""

    def __call__(self, records: Sequence[Record], /, *, missing: Collection[int]) -> Awaitable[Unseen]: ...


class Asker:
    """Asks the registry for all agents of a worker, in turn; while it is away that stands in the signs, and in the log once."""

    def __init__(self, ids: WriterIds, signs: Signs) -> None:
        self._ids, self._signs = ids, signs
        self._turn = asyncio.Lock()

    async def ask(self, schema_ids: Collection[int]) -> Collection[int]:
        """The ids that do not exist; what the others are is known from now on. Waits for a registry that is away, for ever."""
        missing: set[int] = set()
        for schema_id in schema_ids:
            async with self._turn:
                if not await self._exists(schema_id):
                    missing.add(schema_id)
                await asyncio.sleep(_SECONDS_BETWEEN_QUESTIONS)
        return missing

    async def _exists(self, schema_id: int) -> bool:
        pause = 0.1
        while True:
            try:
                await asyncio.to_thread(self._ids.asked, schema_id)
            except KeyError:
                self._answered()
                return False
            except RegistryAwayError as error:
                self._away(str(error))
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                self._answered()
                return True

    def _away(self, why: str) -> None:
        self._signs.steps += 1  # trying again is all that can be done
        if self._signs.outages.get(_SIGN) is None:
            _LOG.warning("intents with schema ids that were not seen before wait, and nothing is lost: %s", why)
        self._signs.outages[_SIGN] = f"intents with unseen schema ids wait: {why}"

    def _answered(self) -> None:
        self._signs.steps += 1
        if self._signs.outages.pop(_SIGN, None) is not None:
            _LOG.warning("the wait for the schema registry is over")


_SIGN: Final = "schema registry"


@dataclass(slots=True)
class Line:
    """What waits of one partition, in its order. `asked` of them had come when their ids were asked about; None: nobody needs an answer."""

    events: deque[Event] = field(default_factory=deque)
    schema_ids: Sequence[int] = ()
    asked: int | None = None


class Holding:
    """What an agent has not decided yet because of ids."""

    def __init__(self, waiting: Waiting, max_intents: int, ask: Ask) -> None:
        self._waiting, self._max_intents, self._ask = waiting, max_intents, ask
        self._lines: dict[int, Line] = defaultdict(Line)
        self._taking: asyncio.Task[list[Event]] | None = None
        self._asking: asyncio.Task[Collection[int]] | None = None

    async def next_batch(self) -> tuple[list[Event], Collection[int]]:
        """Events to decide next, and ids that are known not to exist as far as these are concerned."""
        while True:
            if self._asking is not None and self._asking.done():
                missing = self._asking.result()
                self._asking = None
                batch = self._answered()
                if batch:
                    return batch, missing
            if batch := self._free():
                return batch, ()
            self._begin_asking()
            batch = await self._new_events()
            if batch:
                return batch, ()

    def keep(self, events: Iterable[Event], unseen: Unseen) -> list[Event]:
        """Hold those back that `unseen` names, in front of their partition's line; the others, to be acknowledged, in their order."""
        decided: list[Event] = []
        back: dict[int, list[Event]] = defaultdict(list)
        for event in events:
            partition = event.message.partition
            (back[partition] if unseen.holds(partition, event.message.offset) else decided).append(event)
        for partition, held in back.items():
            line = self._lines[partition]
            line.events.extendleft(reversed(held))
            line.schema_ids, line.asked = tuple(dict.fromkeys(unseen.schema_ids[partition])), None
        for partition in [partition for partition, line in self._lines.items() if not line.events]:
            del self._lines[partition]
        return decided

    def close(self) -> None:
        for task in (self._taking, self._asking):
            if task is not None:
                task.cancel()

    def _answered(self) -> list[Event]:
        """Those that had come when it was asked: of others the answer says nothing."""
        batch: list[Event] = []
        asked = [line for line in self._lines.values() if line.asked]
        share = max(1, self._max_intents // max(1, len(asked)))
        for line in asked:
            batch += [line.events.popleft() for _ in range(min(line.asked or 0, share))]
            line.schema_ids, line.asked = (), None
        return batch

    def _free(self) -> list[Event]:
        """Of the lines whose first event waits for nothing that is known."""
        batch: list[Event] = []
        for line in self._lines.values():
            if not line.schema_ids:
                batch += [line.events.popleft() for _ in range(min(len(line.events), self._max_intents - len(batch)))]
        return batch

    def _begin_asking(self) -> None:
        if self._asking is not None or not self._lines:
            return
        schema_ids: dict[int, None] = {}
        share = max(1, _MOST_AT_ONCE // len(self._lines))
        for line in self._lines.values():
            schema_ids |= dict.fromkeys(line.schema_ids[:share])
            line.asked = len(line.events)
        self._asking = asyncio.create_task(self._ask(schema_ids))

    async def _new_events(self) -> list[Event]:
        """Those of partitions without a line; empty where there are none, or where an answer came first."""
        tasks: set[asyncio.Task[Any]] = set() if self._asking is None else {self._asking}
        if self._taking is None and self._has_room():
            self._taking = asyncio.create_task(take_batch(self._waiting, self._max_intents))
        if self._taking is not None:
            tasks.add(self._taking)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if self._taking is None or not self._taking.done():
            return []
        events, self._taking = self._taking.result(), None
        batch: list[Event] = []
        for event in events:
            line = self._lines.get(event.message.partition)
            (batch if line is None else line.events).append(event)
        return batch

    def _has_room(self) -> bool:
        held = [len(event.message.value or b"") for line in self._lines.values() for event in line.events]
        return len(held) < MOST_HELD and sum(held) < MAX_BATCH_BYTES


async def decide_and_hold(waiting: Waiting, process: Process, max_intents: int, ask: Ask) -> None:
    """As worker.agents.decide_batches(), but that records may wait for ids while those of other partitions are decided."""
    holding = Holding(waiting, max_intents, ask)
    try:
        with exit_on_error():
            while True:
                events, missing = await holding.next_batch()
                unseen = await process([to_record(event) for event in events], missing=missing)
                for event in holding.keep(events, unseen):
                    event.ack()
    finally:
        holding.close()
