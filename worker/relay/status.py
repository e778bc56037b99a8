"""What a relay is doing, for whoever asks from another thread."""

from __future__ import annotations

import time
from typing import Final, Literal

from worker.health import Check

Phase = Literal["starting", "standing by", "active", "waiting"]

_STUCK_SECONDS: Final = 30.0  # every loop turns within a second, also while something is waited for


class RelayStatus:
    """`phase`: `standing by` while another relay has the slot, `active` while this one streams from it, `waiting` in an outage.

    `detail` says what is waited for, `published_lsn` how far the facts in Kafka reached when that was last known. All are written by
    the relay's thread alone.
    """

    def __init__(self) -> None:
        self.phase: Phase = "starting"
        self.detail = ""
        self.published_lsn = 0
        self._turned = time.monotonic()

    def enter(self, phase: Phase, detail: str = "") -> None:
        self.phase, self.detail = phase, detail

    def turn(self) -> None:
        """To be called in every turn of every loop of the relay: what doesn't turn for long is stuck."""
        self._turned = time.monotonic()

    def live(self) -> Check:
        """A relay that waits for something lives: to start it anew would not help."""
        still = time.monotonic() - self._turned
        return Check(state=self.phase, reasons=(f"nothing has turned for {still:.0f} s",) if still > _STUCK_SECONDS else ())

    def ready(self) -> Check:
        """One that stands by is ready, to take over."""
        reasons = () if self.phase in {"active", "standing by"} else (self.detail or self.phase,)
        return Check(state=self.phase, reasons=reasons + self.live().reasons)
