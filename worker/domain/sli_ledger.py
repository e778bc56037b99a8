"""The SLI windows accepted in the last 30 days of data: exact recomputation, overlap and revision all come from here.

An SLO's ledger maps an hour's start to its windows. Widths are 60 and 300 s, both of which divide an hour, so no window spans two.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from struct import Struct
from typing import Final, NamedTuple

from worker.domain.error_budget import NOTHING, Sums
from worker.domain.fields import EPOCH

SLOT: Final = Struct("!Hqqi")  # width_seconds, good, total, revision
HOUR: Final = timedelta(hours=1)
MINUTE: Final = timedelta(minutes=1)
WIDEST_MINUTES: Final = 5
WIDTHS: Final = {60: MINUTE, 300: WIDEST_MINUTES * MINUTE}  # by their seconds
KEPT: Final = timedelta(days=30)  # behind as_of, whatever the SLO's own window says


class SliWindow(NamedTuple):
    """Counts of the window that starts at a minute of an hour; `revision` is the correction they come from."""

    width_seconds: int
    good: int
    total: int
    revision: int


_MINUTES: Final = [number * MINUTE for number in range(60)]

Measure = Callable[[SliWindow], Sums]
"""What a window counts for under an SLI specification."""


@dataclass(frozen=True, slots=True)
class LedgerHour:
    """Sixty slots, one for each minute in which a window may start, as packed bytes (all zero: none does), and the sums of its windows.

    Packed, since it is read and written back far more often than it is looked into.
    """

    slots: bytes
    sums: Sums

    def at(self, minute: int) -> SliWindow | None:
        return SliWindow(*SLOT.unpack_from(self.slots, minute * SLOT.size)) if self.width_at(minute) else None

    def width_at(self, minute: int) -> int:
        """Seconds; 0 where no window starts in this minute."""
        first = minute * SLOT.size
        return self.slots[first] << 8 | self.slots[first + 1]

    def windows(self) -> Iterator[tuple[int, SliWindow]]:
        """Minute and window, in order."""
        for minute, slot in enumerate(SLOT.iter_unpack(self.slots)):
            if slot[0]:
                yield minute, SliWindow(*slot)

    def with_window(self, minute: int, window: SliWindow, sums: Sums) -> "LedgerHour":
        before, after = minute * SLOT.size, (minute + 1) * SLOT.size
        return LedgerHour(self.slots[:before] + SLOT.pack(*window) + self.slots[after:], sums)


Ledger = Mapping[datetime, LedgerHour]
EMPTY_HOUR: Final = LedgerHour(bytes(60 * SLOT.size), NOTHING)


def hour_of(minute: datetime) -> datetime:
    """The start of the hour of a whole minute, which every start and end of a window is."""
    return minute - _MINUTES[minute.minute]


def hours_between(first: datetime, end: datetime) -> Iterator[datetime]:
    """Starts of the hours that share an instant with [first, end)."""
    hour = hour_of(first)
    while hour < end:
        yield hour
        hour += HOUR


def is_aligned(start: datetime, width_seconds: int) -> bool:
    """Whether `start` is a whole multiple of the width (60 or 300 s) since 1970, and not before."""
    return start >= EPOCH and not (start - EPOCH) % WIDTHS[width_seconds]


def window_at(ledger: Ledger, start: datetime) -> SliWindow | None:
    hour = ledger.get(hour_of(start))
    return None if hour is None else hour.at(start.minute)


def overlapping(ledger: Ledger, start: datetime, width_seconds: int) -> datetime | None:
    """Start of a stored window, other than that of the same start and width, that shares an instant with this one."""
    hour = hour_of(start)
    held = ledger.get(hour)
    if held is None:
        return None
    first = start.minute
    for minute in range(max(0, first - WIDEST_MINUTES + 1), first + width_seconds // 60):
        width = held.width_at(minute)
        if width and first < minute + width // 60 and not (minute == first and width == width_seconds):
            return hour + minute * MINUTE
    return None


def put(ledger: Ledger, start: datetime, window: SliWindow, replaced: SliWindow | None, measure: Measure) -> Ledger:
    """The ledger with this window in place of the one that started there."""
    hour = hour_of(start)
    before = ledger.get(hour, EMPTY_HOUR)
    sums = before.sums.plus(measure(window))
    if replaced is not None:
        sums = sums.minus(measure(replaced))
    return {**ledger, hour: before.with_window(start.minute, window, sums)}


def prune(ledger: Ledger, as_of: datetime) -> Ledger:
    """The ledger without the hours that end 30 days or more before `as_of`."""
    oldest = as_of - KEPT
    if all(hour + HOUR > oldest for hour in ledger):
        return ledger
    return {hour: windows for hour, windows in ledger.items() if hour + HOUR > oldest}


def total_between(ledger: Ledger, first: datetime, end: datetime, measure: Measure) -> Sums:
    """Sums over the windows that start in [first, end)."""
    total, hour = NOTHING, hour_of(first)
    while hour < end:
        held = ledger.get(hour)
        if held is not None:
            total = total.plus(_part(hour, held, first, end, measure))
        hour += HOUR
    return total


def total_since(ledger: Ledger, first: datetime, measure: Measure) -> Sums:
    """Sums over all windows that start at `first` or later."""
    total = NOTHING
    for hour, held in ledger.items():
        total = total.plus(_part(hour, held, first, hour + HOUR, measure))
    return total


def _part(hour: datetime, held: LedgerHour, first: datetime, end: datetime, measure: Measure) -> Sums:
    if first <= hour and hour + HOUR <= end:
        return held.sums
    total = NOTHING
    for minute, window in held.windows():
        if first <= hour + minute * MINUTE < end:
            total = total.plus(measure(window))
    return total
