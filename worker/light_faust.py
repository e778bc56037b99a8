"""Two costs that Faust has for every message and this worker has no use for: a wait on four futures, and a monitor.

Both are taken out where Faust lets them be: by a consumer class of our own, and by a monitor that counts nothing.
"""

from __future__ import annotations

import asyncio
from types import coroutine
from typing import TYPE_CHECKING, Any

import faust
from faust.transport.drivers.aiokafka import Consumer
from mode.services import WaitResults

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator


class QuickConsumer(Consumer):
    """Hands a message over at once where nothing holds it up, which is nearly always.

    Faust wraps every hand-over in tasks, so that a full stream or a rebalance can interrupt it; only one that blocks needs that.
    """

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
    app.monitor = NoMonitor()
    app.transport.Consumer = QuickConsumer  # type: ignore[misc]  # of this app's transport alone
