"""What ends a worker, and what doesn't: turns are counted, not seconds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from worker.consumer_state import Due
from worker.signs import Signs
from worker.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable

TURNS = 24
WORK = Due(work="3 records are to be decided")


class Watched:
    """A watchdog over this test's own loop, turned by hand."""

    def __init__(self, due: Due, *, kafka: bool = True) -> None:
        self.due, self.kafka, self.signs = due, kafka, Signs()
        loop = asyncio.get_running_loop()
        self.consumer_loop: Callable[[], asyncio.AbstractEventLoop | None] = lambda: loop
        self.watchdog = Watchdog(
            signs=self.signs,
            loop=loop,
            consumer_loop=lambda: self.consumer_loop(),  # noqa: PLW0108 - a test puts another in its place
            ask=self.ask,
            kafka_answers=lambda: self.kafka,
            seconds=1,
        )

    async def ask(self) -> Due:
        return self.due

    async def turn(self, times: int, step: bool = False) -> str | None:  # noqa: FBT001, FBT002 - whether a batch is decided each time
        for _ in range(times):
            self.signs.steps += step
            if (reason := self.watchdog.turn()) is not None:
                return reason
            for _ in range(5):
                await asyncio.sleep(0)
        return None


def test_work_that_is_not_done_ends_the_worker_and_first_makes_it_unready() -> None:
    async def scenario() -> None:
        watched = Watched(WORK)
        await watched.turn(TURNS // 2)
        assert watched.watchdog.stalled() == WORK.work
        assert watched.watchdog.blocked() is None
        assert await watched.turn(TURNS) == WORK.work

    asyncio.run(scenario())


def test_nothing_to_do_and_work_that_gets_done_are_no_stall() -> None:
    async def scenario() -> None:
        watched = Watched(Due())
        assert await watched.turn(3 * TURNS) is None
        watched.due = WORK
        assert await watched.turn(3 * TURNS, step=True) is None
        assert watched.watchdog.stalled() is None

    asyncio.run(scenario())


def test_kafka_that_is_away_is_waited_for() -> None:
    async def scenario() -> None:
        watched = Watched(Due(trouble="Kafka does not answer its consumer"), kafka=False)
        assert await watched.turn(3 * TURNS) is None
        watched.kafka = True
        assert await watched.turn(2 * TURNS) == "Kafka does not answer its consumer"

    asyncio.run(scenario())


def test_a_loop_that_does_not_turn_ends_the_worker() -> None:
    async def scenario() -> None:
        watched = Watched(Due())
        await watched.turn(3)
        reasons = [watched.watchdog.turn() for _ in range(TURNS + 2)]  # without a turn of the loop in between
        assert "its event loop does not turn" in reasons
        assert watched.watchdog.blocked() is not None

    asyncio.run(scenario())


def test_a_consumer_thread_that_has_ended_ends_the_worker() -> None:
    async def scenario() -> None:
        watched = Watched(Due())
        ended = asyncio.new_event_loop()
        ended.close()
        watched.consumer_loop = lambda: ended
        assert await watched.turn(2 * TURNS) == "Faust's consumer thread does not turn"

    asyncio.run(scenario())


def test_an_error_of_the_consumer_is_a_reason() -> None:
    async def scenario() -> None:
        watched = Watched(Due())

        async def fail() -> Due:
            raise OSError("gone")

        watched.watchdog._ask = fail
        await watched.turn(3)
        assert watched.watchdog.due.trouble == "its consumer fails: OSError('gone')"

    asyncio.run(scenario())
