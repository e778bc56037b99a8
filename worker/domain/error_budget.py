"""How much of an error budget is left, in exact integers: no float, no rounding before the last step.

Sources: OpenSLO v1 (Occurrences, Timeslices, RatioTimeslices) and Google's SRE Workbook, chapter 2; docs/contract.md has the formulas.
"""

from decimal import Decimal
from typing import Final, NamedTuple

from worker.domain.fields import PERCENT_PLACES

OCCURRENCES: Final = "occurrences"
TIMESLICES: Final = "timeslices"
RATIO_TIMESLICES: Final = "ratio_timeslices"

_WHOLE: Final = 100 * 10**PERCENT_PLACES  # 100 %, in units of a percent's last place
_RATIO_ONE: Final = 10**18  # a ratio of 1, in the units that ratios are stored in


class Sums(NamedTuple):
    """Sums over SLI windows. `slices` are those with events; `ratios` adds good/total of each, in units of 1e-18."""

    good: int = 0
    total: int = 0
    slices: int = 0
    bad_slices: int = 0
    ratios: int = 0

    def plus(self, other: "Sums") -> "Sums":
        return Sums(
            self.good + other.good,
            self.total + other.total,
            self.slices + other.slices,
            self.bad_slices + other.bad_slices,
            self.ratios + other.ratios,
        )

    def minus(self, other: "Sums") -> "Sums":
        return Sums(
            self.good - other.good,
            self.total - other.total,
            self.slices - other.slices,
            self.bad_slices - other.bad_slices,
            self.ratios - other.ratios,
        )


NOTHING: Final = Sums()


def unscaled(percent: Decimal) -> int:
    """A percent as a whole number of its last places (1e-6 %)."""
    return int(percent.scaleb(PERCENT_PLACES))


def half_even_ratio(good: int, total: int) -> int:
    """good/total rounded half-even to 18 places, in units of 1e-18: the exact sum of 43,200 fractions does not stay small."""
    quotient, remainder = divmod(good * _RATIO_ONE, total)
    twice = 2 * remainder
    return quotient + (twice > total or (twice == total and quotient % 2 == 1))


def measure(good: int, total: int, method: str, slice_target: Decimal | None) -> Sums:
    """What one SLI window adds to the sums that its budgeting method needs."""
    if method == OCCURRENCES or total == 0:
        return Sums(good, total)
    if method == TIMESLICES:
        if slice_target is None:
            raise ValueError("timeslices have a slice target")
        return Sums(good, total, 1, int(_WHOLE * good < unscaled(slice_target) * total))
    return Sums(good, total, 1, 0, half_even_ratio(good, total))


def remaining_percent(sums: Sums, method: str, target: Decimal, slices_in_window: int) -> Decimal:
    """Share of the error budget left, in percent, rounded up to six places: 100 untouched, 0 or less exhausted, never clamped.

    Rounded up, so that the published number is ≤ 0 exactly when the exact one is. Without events nothing is spent.
    Raises ZeroDivisionError for a target of 100, which has no budget. `slices_in_window` is read for timeslices only.
    """
    if sums.total == 0:
        return Decimal(100)
    allowed = _WHOLE - unscaled(target)
    if method == OCCURRENCES:
        spent, budget = (sums.total - sums.good) * _WHOLE, allowed * sums.total
    elif method == TIMESLICES:
        spent, budget = sums.bad_slices * _WHOLE, allowed * slices_in_window
    else:
        spent, budget = (sums.slices * _RATIO_ONE - sums.ratios) * _WHOLE, allowed * sums.slices * _RATIO_ONE
    rounded_up = -((spent - budget) * _WHOLE // budget)
    return Decimal(rounded_up).scaleb(-PERCENT_PLACES)
