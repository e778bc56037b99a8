"""Costs and waits of Faust that this worker has no use for, taken out where Faust lets them be: by classes of our own.

For every message: a wait on four futures, and a monitor. For every burst: up to a second of sleep once all buffers were full, and up to
1.5 s in which a partition that was just read waits for a fetch of the quiet ones to end.
"""

from __future__ import annotations

import asyncio
import logging
import os
from types import coroutine
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

import faust
from aiokafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Producer
from mode.services import WaitResults
from mode.utils.locks import Event

from worker.agents import EXIT_SOFTWARE
from worker.consumer_state import taken_messages

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

    from aiokafka.errors import KafkaError
    from faust.types import TP

_FULL_BUFFER_SECONDS: Final = 0.02  # how long quiet partitions are waited for while others have a full buffer, which may soon have room
_MAX_HELD_BYTES: Final = 32 * 2**20  # Faust counts records, and 4,096 of the largest for each agent are 4 GiB
_REFUSALS: Final = (GroupAuthorizationFailedError, TopicAuthorizationFailedError)
_LOG: Final = logging.getLogger(__name__)
_LONGEST_FETCH_MS: Final = 100  # how long a broker holds a fetch back that has nothing new


class QuickConsumer(Consumer):
    """Hands a message over at once where nothing holds it up, which is nearly always, and reads on as soon as a buffer has room.

    Faust wraps every hand-over in tasks, so that a full stream or a rebalance can interrupt it; only one that blocks needs that.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the overridden signature
        super().__init__(*args, **kwargs)
        self._room = Event()
        self._read_bytes = 0  # since what is held was counted last

    def on_buffer_drop(self, tp: TP) -> None:
        super().on_buffer_drop(tp)
        self._room.set()

    def highwater(self, tp: TP) -> int:  # noqa: ARG002 - the overridden signature
        """Asked for with every message, for the monitor alone."""
        return 0

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Commit first what was acknowledged: Faust forgets it here, and it would come again to be found decided."""
        await self.maybe_wait_for_commit_to_finish()
        while any(self._acked.get(tp) for tp in revoked) and await self.commit():
            pass  # more may have been acknowledged meanwhile
        await super().on_partitions_revoked(revoked)

    async def _wait_next_records(self, timeout: float) -> Any:  # noqa: ANN401, ASYNC109 - the overridden signature
        if self._buffered_partitions:
            if not self._get_active_partitions():
                self._room.clear()
                await self.wait(self._room, timeout=1.0)  # Faust sleeps that second out
            timeout = min(timeout, _FULL_BUFFER_SECONDS)
        return await super()._wait_next_records(timeout)

    async def _getmany(self, active_partitions: Any, timeout: float) -> Any:  # noqa: ANN401, ASYNC109 - the overridden signature
        while self._read_bytes > _MAX_HELD_BYTES and self.flow_active and not self.should_stop:
            self._read_bytes = sum(len(message.value or b"") for message in taken_messages(cast("faust.App", self.app)))
            if self._read_bytes > _MAX_HELD_BYTES:
                await self.sleep(_FULL_BUFFER_SECONDS)
        try:
            records = await super()._getmany(active_partitions, timeout)
        except _REFUSALS as error:
            _end_refused(error)
        for read in records.values():
            self._read_bytes += sum(record.serialized_value_size for record in read)
        return records

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return QuickConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def wait_first(self, *coros: Any, timeout: Any = None) -> WaitResults:  # noqa: ANN401, ASYNC109 - the overridden signature
        if timeout is not None or len(coros) != 2 or not all(map(asyncio.iscoroutine, coros)):  # noqa: PLR2004 - hand over, or be suspended
            return await super().wait_first(*coros, timeout=timeout)
        handing_over, suspended = coros
        try:
            blocked_on = handing_over.send(None)
        except StopIteration as done:
            suspended.close()
            return WaitResults([handing_over], [done.value], stopped=False)
        except BaseException:
            suspended.close()
            raise
        return await super().wait_first(finish(handing_over, blocked_on), suspended)


class QuickConsumerThread(AIOKafkaConsumerThread):
    """Asks the broker more often: a fetch that waits for quiet partitions keeps back those that have more."""

    def _create_worker_consumer(self, *args: Any) -> Any:  # noqa: ANN401 - aiokafka is untyped
        consumer = super()._create_worker_consumer(*args)
        consumer._fetch_max_wait_ms = _LONGEST_FETCH_MS  # noqa: SLF001 - Faust has 1,500 in its code and no setting
        return consumer


async def finish(started: Coroutine[Any, Any, Any], blocked_on: Any) -> Any:  # noqa: ANN401 - whatever it awaits and returns
    """Await a coroutine that was run up to its first wait."""
    return await _resume(started, blocked_on)


@coroutine
def _resume(started: Coroutine[Any, Any, Any], blocked_on: Any) -> Generator[Any, Any, Any]:  # noqa: ANN401 - whatever it awaits
    while True:
        try:
            try:
                result = yield blocked_on
            except BaseException as error:  # noqa: BLE001 - it is the coroutine's to handle
                blocked_on = started.throw(error)
            else:
                blocked_on = started.send(result)
        except StopIteration as done:
            return done.value


class IdleProducer(Producer):
    """Sends nothing: no message has to ask whether what is to be sent has piled up."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the overridden signature
        super().__init__(*args, **kwargs)
        self.buffer.wait_until_ebb = _go_on  # type: ignore[method-assign]


async def _go_on() -> None:
    pass


class RawSchema(faust.Schema[Any, Any]):
    """Events that carry their message as it is: no decoding that could fail and be acknowledged, no copy of the headers."""

    def compile(self, app: Any, **_: Any) -> Any:  # noqa: ANN401 - its other parameters handle failures
        event_of = app.conf.Event  # app.create_event() looks it up for every message

        async def decode(message: Any, *, propagate: bool = False) -> Any:  # noqa: ANN401, ARG001 - as Faust calls it
            return event_of(app, None, None, None, message)

        return decode


class NoMonitor(faust.Monitor):
    """Counts nothing for each message; nobody reads Faust's monitor here."""

    def on_message_in(self, *_: Any) -> None:  # noqa: ANN401 - the overridden signature
        pass

    def on_stream_event_in(self, *_: Any) -> None:  # noqa: ANN401
        pass

    def on_stream_event_out(self, *_: Any) -> None:  # noqa: ANN401
        pass

    def on_message_out(self, *_: Any) -> None:  # noqa: ANN401
        pass


def lighten(app: faust.App) -> None:
    """To be called before the app is finalized."""
    logging.getLogger(__name__).setLevel(logging.WARNING)  # Faust's services log as the module of their class
    app.monitor = NoMonitor()
    app.transport.Consumer = QuickConsumer  # type: ignore[misc]  # of this app's transport alone
    app.transport.Producer = IdleProducer  # type: ignore[misc]


def _end_refused(error: KafkaError) -> NoReturn:
    """Faust would go on without fetching, or end with a page of traceback. The next start waits where topics can't be seen."""
    _LOG.critical("Kafka refuses this worker a right that it needs, and the process ends: %s", error)
    logging.shutdown()
    os._exit(EXIT_SOFTWARE)
