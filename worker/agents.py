"""Topic to batch: takes records as they come and acknowledges them, oldest first, once their outcomes are committed."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast

from worker.envelope import Header, Record

if TYPE_CHECKING:
    from faust.streams import Stream
    from faust.types import EventT

    Waiting = asyncio.Queue[EventT[Any]]
    Decide = Callable[[Waiting, Any, int], Coroutine[None, None, None]]

_LOG = logging.getLogger(__name__)

Process = Callable[[Sequence[Record]], Awaitable[object]]

EXIT_SOFTWARE: Final = 70  # sysexits.h
MAX_BATCH_BYTES: Final = 8 * 2**20  # of values; the one that goes past it is the last: a batch is held several times over while it is saved
_QUIET_TURNS: Final = 10  # measured: with 3 a batch under load had 90 records, with 10 all 500


async def take_intents(
    stream: Stream[EventT[bytes]],
    process: Process,
    max_intents: int,
    expect: Callable[[Record], None] | None = None,
    decide: Decide | None = None,
) -> None:
    """Run until the stream ends or the process has to. `expect` is told of each record when it comes; `decide` is decide_batches().

    A batch is all that is there once the one before is decided: one record when it is quiet, `max_intents` under load, and no timer.
    """
    waiting: Waiting = asyncio.Queue(maxsize=max_intents)  # full while batches are slow: what is held in memory is bounded
    stream.enable_acks = False  # Faust acknowledges before the commit, also what it took when it is told to stop
    deciding = asyncio.create_task((decide or decide_batches)(waiting, process, max_intents))
    try:
        with exit_on_error():  # Faust would restart this agent without redelivering the batch that failed
            async for event in stream.events():
                if expect is not None:
                    expect(to_record(event))
                if waiting.full():
                    await waiting.put(event)
                else:
                    waiting.put_nowait(event)
    finally:
        deciding.cancel()


async def decide_batches(waiting: Waiting, process: Process, max_intents: int) -> None:
    with exit_on_error():
        while True:
            events = await take_batch(waiting, max_intents)
            await process([to_record(event) for event in events])
            for event in events:
                event.ack()  # oldest first: Faust can commit past a lone unacknowledged offset


async def take_batch(waiting: Waiting, max_intents: int) -> list[EventT[Any]]:
    """At least one event, and all that Faust has: it hands over one a turn of the loop, so some turns without one are the end."""
    events = [await waiting.get()]
    room = MAX_BATCH_BYTES - len(events[0].message.value or b"")
    quiet_turns = 0
    while len(events) < max_intents and room > 0 and quiet_turns < _QUIET_TURNS:
        if waiting.empty():
            quiet_turns += 1
            await asyncio.sleep(0)
        else:
            quiet_turns = 0
            event = waiting.get_nowait()
            events.append(event)
            room -= len(event.message.value or b"")
    return events


def to_record(event: EventT[Any]) -> Record:
    message = event.message
    return Record(
        message.topic,
        message.partition,
        message.offset,
        round(message.timestamp * 1000),
        message.key,
        message.value,
        cast("Sequence[Header]", message.headers or ()),
    )


@contextmanager
def exit_on_error() -> Iterator[None]:
    """End the process at once on an error that nothing handled: unacknowledged records come again to whoever is next."""
    try:
        yield
    except asyncio.CancelledError:
        raise
    except BaseException:  # noqa: BLE001 - whatever it is
        _LOG.critical("going on would lose records; the process ends", exc_info=True)
        logging.shutdown()
        os._exit(EXIT_SOFTWARE)
