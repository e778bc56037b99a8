"""What a poller remembers between two polls, in a small JSON file: how far it came, and the windows that may still be corrected.

Windows are written down before they are sent, and again once Kafka has them. A poller that is killed in between sends the very same
intents once more, which the worker knows by their ids, and only then asks again. So no correction can come between the two.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from worker.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from worker.integrations.prometheus import Counts

_Count = Annotated[int, Field(ge=0)]


class PollStateError(WorkerError):
    """The state file can't be read or written, or belongs to another poller."""


@dataclass(frozen=True, slots=True)
class Sent:
    """Counts of a window as they were last sent; every correction has a higher revision."""

    good: _Count
    total: _Count
    revision: _Count


@dataclass(frozen=True, slots=True)
class PollState:
    """`windows` are those sent, by their start, from `since` on; up to `through`, the end of the last window, all were asked for.

    `unconfirmed` were about to be sent.
    """

    tenant: str
    slo: str
    width_seconds: int
    since: AwareDatetime
    through: AwareDatetime
    windows: dict[AwareDatetime, Sent] = field(default_factory=dict)
    unconfirmed: dict[AwareDatetime, Sent] = field(default_factory=dict)

    def changes(self, measured: Mapping[datetime, Counts]) -> dict[datetime, Sent]:
        """What is to be sent: windows that are new, and those whose counts are other than before."""
        changed: dict[datetime, Sent] = {}
        for start, counts in measured.items():
            known = self.windows.get(start)
            if known is None:
                changed[start] = Sent(counts.good, counts.total, 0)
            elif (known.good, known.total) != (counts.good, counts.total):
                changed[start] = Sent(counts.good, counts.total, known.revision + 1)
        return changed

    def confirmed(self) -> PollState:
        return replace(self, windows=self.windows | self.unconfirmed, unconfirmed={})

    def forgetting(self, since: datetime) -> PollState:
        """Without the windows before `since`, which are not corrected any more."""
        if since <= self.since:
            return self
        return replace(self, since=since, windows={start: sent for start, sent in self.windows.items() if start >= since})


_STATE = TypeAdapter(PollState)


def load_state(file: Path, tenant: str, slo: str, width_seconds: int) -> PollState | None:
    """None where there is no such file yet."""
    try:
        state = _STATE.validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PollStateError(f"{file}: {error.strerror}") from None
    except ValidationError:
        raise PollStateError(f"{file} is not the state of a poller") from None
    if (state.tenant, state.slo, state.width_seconds) != (tenant, slo, width_seconds):
        owner = f"SLO {state.slo} of tenant {state.tenant} in windows of {state.width_seconds} s"
        raise PollStateError(f"{file} is the state for {owner}: give each SLO a file of its own")
    return state


def save_state(file: Path, state: PollState) -> None:
    """All or nothing, also where the machine fails."""
    beside = file.with_name(f"{file.name}.new")
    try:
        with beside.open("wb") as new:
            new.write(_STATE.dump_json(state))
            new.flush()
            os.fsync(new.fileno())
        beside.replace(file)
        directory = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise PollStateError(f"{file}: {error.strerror}") from None


@contextmanager
def only_poller(file: Path) -> Iterator[None]:
    """Holds a lock beside the state file. Raises PollStateError where another poller has it."""
    try:
        with file.with_name(f"{file.name}.lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    except BlockingIOError:
        raise PollStateError(f"{file} is in use by another poller") from None
