"""What a worker tells its probes: whether it lives, and whether it can take intents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import psycopg

from worker.consumer_state import partitions
from worker.health import Check

if TYPE_CHECKING:
    import faust

    from worker.signs import Signs
    from worker.watchdog import Watchdog

_CONNECT_SECONDS: Final = 2  # the shortest that libpq has


class Condition:
    """Asked from threads of their own; `state` until there is an app is what the process waits for."""

    def __init__(self, dsn: str, signs: Signs) -> None:
        self.state = "waiting for Kafka"
        self._dsn, self._signs = dsn, signs
        self._watched: tuple[faust.App, Watchdog] | None = None

    def watch(self, app: faust.App, watchdog: Watchdog) -> None:
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
