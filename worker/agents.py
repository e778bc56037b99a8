"""Topic to batch: takes records as they come and acknowledges them, oldest first, once their outcomes are committed."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast

from worker.envelope import Header, Record

if TYPE_CHECKING:
    from faust.streams import Stream
    from faust.types import EventT

_LOG = logging.getLogger(__name__)

Process = Callable[[Sequence[Record]], Awaitable[None]]

EXIT_SOFTWARE: Final = 70  # sysexits.h


async def take_intents(stream: Stream[EventT[bytes]], process: Process, max_intents: int, within_seconds: float) -> None:
    """Run until the stream ends or the process has to."""
    with exit_on_error():  # Faust would restart this agent without redelivering the batch that failed
        async for events in stream.noack_take(max_intents, within=within_seconds):
            await process([to_record(event) for event in events])
            for event in events:
                event.ack()  # oldest first: Faust can commit past a lone unacknowledged offset


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
