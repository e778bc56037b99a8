"""The worker whose watchdog has four seconds."""

from typing import Any

from worker import service
from worker.cli import main
from worker.watchdog import Watchdog


def impatient(**given: Any) -> Watchdog:
    return Watchdog(**given | {"seconds": 4.0})


service.Watchdog = impatient  # type: ignore[assignment,misc]
main()
