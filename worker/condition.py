"""What a worker tells its probes: whether it lives, and whether it can take intents."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import psycopg

from worker.consumer_state import Backlog, backlog, partitions
from worker.health import Check

if TYPE_CHECKING:
    from concurrent.futures import Future

    import faust

    from worker.signs import Signs
    from worker.watchdog import Watchdog

_CONNECT_SECONDS: Final = 2  # the shortest that libpq has
_ANSWER_SECONDS: Final = 2


class Condition:
    """Asked from threads of their own; `state` until there is an app is what the process waits for."""

    def __init__(self, dsn: str, signs: Signs) -> None:
        self.state = "waiting for Kafka"
        self._dsn, self._signs = dsn, signs
        self._watched: tuple[faust.App, Watchdog] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked: Future[Backlog | None] | None = None

    def watch(self, app: faust.App, watchdog: Watchdog) -> None:
        """To be called in the app's event loop."""
        self._loop = asyncio.get_running_loop()
        self._watched, self.state = (app, watchdog), "starting"

    def stop(self) -> None:
        self._watched, self.state = None, "stopping"

    def live(self) -> Check:
        """A worker that waits for something lives: to start it anew would not help."""
        if self._watched is None:
            return Check(state=self.state)
        _, watchdog = self._watched
        blocked = watchdog.blocked()
        return Check(state=self._doing(), reasons=() if blocked is None else (blocked,))

    def ready(self) -> Check:
        """A worker without partitions is ready, to take over those of others."""
        if self._watched is None:
            return Check(state=self.state, reasons=(self.state,))
        _, watchdog = self._watched
        outages = tuple(self._signs.outages.values())
        reasons = [watchdog.blocked(), watchdog.due.trouble or watchdog.stalled(), *(outages or [self._database()])]
        return Check(state=self._doing(), reasons=tuple(dict.fromkeys(filter(None, reasons))))

    def backlog(self) -> Backlog:
        """What the worker has still to decide. Raises TimeoutError where its consumer does not say, aiokafka.errors.KafkaError."""
        if self._watched is None or self._loop is None or self._loop.is_closed():
            raise TimeoutError("there is no consumer")
        app, watchdog = self._watched
        if watchdog.due.trouble is not None or not (self._asked is None or self._asked.done()):
            raise TimeoutError(watchdog.due.trouble or "its consumer has not answered yet")  # no second question in the consumer's queue
        self._asked = asyncio.run_coroutine_threadsafe(backlog(app), self._loop)
        found = self._asked.result(_ANSWER_SECONDS)
        if found is None:
            raise TimeoutError("there is no consumer")
        return found

    def _doing(self) -> str:
        if self._watched is None:
            return self.state
        app, watchdog = self._watched
        if watchdog.due.trouble is not None:
            return "starting"
        if self._signs.outages:
            return "waiting"
        return "active" if partitions(app) else "standing by"

    def _database(self) -> str | None:
        try:
            psycopg.connect(self._dsn, connect_timeout=_CONNECT_SECONDS, application_name="sre-domain probe").close()
        except psycopg.Error as error:
            return f"PostgreSQL: {' '.join(str(error).split())}"
        return None
