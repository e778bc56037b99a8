"""Waiting for calls that block in C, without being deaf meanwhile: the WAL sender is kept informed, and a stop is heard."""

from __future__ import annotations

import time
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING, Final, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from worker.relay.status import RelayStatus

Result = TypeVar("Result")

LOOK_UP_SECONDS: Final = 0.1
GRACE_SECONDS: Final = 1.0


class StoppedError(Exception):
    """The relay was told to stop while it waited for something that may take longer."""


class Waiting:
    """One thread for calls that block, and what is to be done every LOOK_UP_SECONDS while they do."""

    def __init__(self, stop: Event, status: RelayStatus) -> None:
        self.stop = stop
        self.status = status
        self._meanwhile: Callable[[], None] = _nothing
        self._deadline: float | None = None
        # One thread for all calls: starting one a call can cost as much as a small Kafka transaction.
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        Thread(target=self._serve, daemon=True, name="relay-calls").start()

    @contextmanager
    def doing(self, meanwhile: Callable[[], None]) -> Iterator[None]:
        """Call `meanwhile` in every wait inside this context."""
        self._meanwhile = meanwhile
        try:
            yield
        finally:
            self._meanwhile = _nothing

    def for_call(self, call: Callable[[], Result]) -> Result:
        """What `call` returns or raises. Raises StoppedError, leaving the call behind, GRACE_SECONDS after a stop was noticed."""
        outcome: SimpleQueue[tuple[Result, None] | tuple[None, BaseException]] = SimpleQueue()
        self._calls.put(lambda: _put_outcome(call, outcome))
        while True:
            try:
                result, fault = outcome.get(timeout=LOOK_UP_SECONDS)
            except Empty:
                self.status.turn()
                self._meanwhile()
                self._notice_stop()
            else:
                break
        if fault is None:
            return cast("Result", result)
        try:
            raise fault
        finally:
            del fault  # a cycle through the traceback would keep alive all that the frames hold

    def for_seconds(self, seconds: float) -> None:
        """Sleep, but not past a stop."""
        deadline = time.monotonic() + seconds
        while not self.stop.is_set() and (left := deadline - time.monotonic()) > 0:
            self.status.turn()
            # Not Event.wait, which can deadlock with an Event.set in a signal handler.
            time.sleep(min(left, LOOK_UP_SECONDS))

    def close(self) -> None:
        """End the thread, once its call returns."""
        self._calls.put(None)

    def turn(self) -> None:
        """To be called in each turn of a loop that waits by itself. Raises StoppedError at once after a stop."""
        self.status.turn()
        self._meanwhile()
        if self.stop.is_set():
            raise StoppedError

    def _notice_stop(self) -> None:
        now = time.monotonic()
        if self.stop.is_set() and self._deadline is None:
            self._deadline = now + GRACE_SECONDS
        if self._deadline is not None and now > self._deadline:
            raise StoppedError

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


def _put_outcome(call: Callable[[], Result], outcome: SimpleQueue[tuple[Result, None] | tuple[None, BaseException]]) -> None:
    try:
        outcome.put((call(), None))
    except BaseException as fault:  # noqa: BLE001 - it belongs to the thread that waits
        outcome.put((None, fault))


def _nothing() -> None:
    pass
