"""One child of the stack: started, watched, and started again when it ends by itself."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.devstack.processes import complaints
from worker.errors import WorkerError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

_LONGEST_PAUSE_SECONDS = 30.0
_HEALTHY_SECONDS = 60.0  # who ran so long gets a fresh start


@dataclass(frozen=True, slots=True)
class Running:
    process: subprocess.Popen[bytes]
    stop: Callable[[], object]


@dataclass(slots=True)
class Service:
    """`start` works as well the second time; `log` is where the process says why it ended."""

    name: str
    log: Path
    start: Callable[[], Running]
    running: Running | None = None
    started: float = 0.0
    failures: int = 0
    next_start: float = 0.0

    def begin(self) -> None:
        self.running, self.started = self.start(), time.monotonic()

    def stop(self) -> None:
        if self.running is not None:
            self.running.stop()

    def tend(self, say: Callable[[str], None]) -> None:
        """Notice that the process has ended, and start it again when its pause is over; `say` gets one line for either."""
        if self.running is None:
            if time.monotonic() >= self.next_start:
                self._begin_again(say)
        elif self.running.process.poll() is not None:
            if time.monotonic() - self.started > _HEALTHY_SECONDS:
                self.failures = 0
            end = _describe(self.running.process.returncode, self.log)
            self.running = None
            say(f"{self.name} {end}; {self._pause()} (see {self.log})")

    def _begin_again(self, say: Callable[[str], None]) -> None:
        try:
            self.begin()
        except WorkerError as error:
            say(f"{error}; {self._pause()}")
        else:
            say(f"{self.name} is running again")

    def _pause(self) -> str:
        """Put the next start off, for longer each time: 1, 2, 4, … seconds."""
        pause = min(_LONGEST_PAUSE_SECONDS, 2.0**self.failures)
        self.failures += 1
        self.next_start = time.monotonic() + pause
        return f"starting it again in {pause:.0f} s"


def _describe(exit_code: int, log: Path) -> str:
    if exit_code < 0:
        return f"was ended by {signal.Signals(-exit_code).name}"
    return f"ended with status {exit_code}: {complaints(log)[-1]}"
