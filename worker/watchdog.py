"""Ends a worker that stands still, so that it is started anew and its partitions go to others: Faust only logs a stall.

Waiting for PostgreSQL or Kafka is not standing still: a new process would wait as well. Time is counted in turns of this thread, so that
a process that was paused (SIGSTOP, a suspended machine) is not blamed for the time in which it could not run.
"""

from __future__ import annotations

import asyncio
import logging
import os
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

from worker.agents import EXIT_SOFTWARE
from worker.consumer_state import Due

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Future

    from worker.signs import Signs

_TURN_SECONDS: Final = 1.0
_PATIENT_TURNS: Final = 3  # until no answer is one
_FEWEST_TURNS: Final = 24  # in the time that is allowed

DOUBTFUL: Final = 0.25  # of that time, and a worker is not ready any more

_LOG = logging.getLogger(__name__)


class Pulse:
    """Whether an event loop of another thread still turns; `missed` counts the turns of ours without an answer."""

    def __init__(self, loop: Callable[[], asyncio.AbstractEventLoop | None]) -> None:
        self.missed = 0
        self._loop = loop
        self._asked: object = None
        self._answered = True

    def feel(self) -> None:
        loop = self._loop()
        if loop is not self._asked:  # a new one, or the first
            self._asked, self._answered = loop, True
        if loop is None:
            self.missed = 0
        elif not self._answered:
            self.missed += 1
        elif loop.is_closed():
            self._answered = False
        else:
            self.missed, self._answered = 0, False
            loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        self._answered = True


class Watchdog:
    """`ask` is run in the worker's loop; `kafka_answers` asks by another client than Faust's."""

    def __init__(
        self,
        *,
        signs: Signs,
        loop: asyncio.AbstractEventLoop,
        consumer_loop: Callable[[], asyncio.AbstractEventLoop | None],
        ask: Callable[[], Coroutine[None, None, Due]],
        kafka_answers: Callable[[], bool],
        seconds: float,
    ) -> None:
        self.due = Due(trouble="it has just started")
        self._still = 0
        self._turn_seconds = min(_TURN_SECONDS, seconds / _FEWEST_TURNS)
        self._turns = round(seconds / self._turn_seconds)
        self._signs, self._steps = signs, signs.steps
        self._loop, self._ask, self._kafka_answers, self._seconds = loop, ask, kafka_answers, seconds
        self._pulses = {"its event loop does not turn": Pulse(lambda: loop), "Faust's consumer thread does not turn": Pulse(consumer_loop)}
        self._answer: Future[Due] | None = None
        self._unanswered = 0
        self._over = Event()

    def start(self) -> None:
        Thread(target=self._run, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        self._over.set()

    def blocked(self, share: float = DOUBTFUL) -> str | None:
        """What has not turned for this share of the time that is allowed."""
        return next((what for what, pulse in self._pulses.items() if pulse.missed >= share * self._turns), None)

    def stalled(self, share: float = DOUBTFUL) -> str | None:
        """What has been due for this share of the time that is allowed, with nothing done."""
        return (self.due.trouble or self.due.work) if self._still >= share * self._turns else None

    def turn(self) -> str | None:
        """Look once; the reason to end the process, if there is one."""
        for pulse in self._pulses.values():
            pulse.feel()
        self._look_what_is_due()
        if self.due == Due() or self._signs.steps != self._steps:
            self._still, self._steps = 0, self._signs.steps
        else:
            self._still += 1
        if (what := self.blocked(share=1)) is not None:
            return what
        if (what := self.stalled(share=1)) is not None:
            if self._kafka_answers():
                return what
            self._still = 0  # an outage, however long: when it is over, the worker has as much time again
        return None

    def _look_what_is_due(self) -> None:
        if self._answer is None:
            self._unanswered = 0
            if not self._loop.is_closed():
                self._answer = asyncio.run_coroutine_threadsafe(self._ask(), self._loop)
        elif self._answer.done():
            error = self._answer.exception()
            self.due = self._answer.result() if error is None else Due(trouble=f"its consumer fails: {error!r}")
            self._answer = None
            self._look_what_is_due()
        else:
            self._unanswered += 1
            if self._unanswered > _PATIENT_TURNS:
                self.due = Due(trouble="Kafka does not answer its consumer")

    def _run(self) -> None:
        while not self._over.wait(self._turn_seconds):
            reason = self.turn()
            if reason is not None and not self._over.is_set():
                _LOG.critical("standing still for %g s, the process ends: %s", self._seconds, reason)
                logging.shutdown()
                os._exit(EXIT_SOFTWARE)
