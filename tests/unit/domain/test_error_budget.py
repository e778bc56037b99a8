"""The contract's worked examples of a budget, by their number, and the laws behind them."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.error_budget import NOTHING, OCCURRENCES, RATIO_TIMESLICES, TIMESLICES, Sums, half_even_ratio, measure, remaining_percent

TARGET_999 = Decimal("99.900000")


def bad_of(bad: int, total: int) -> Sums:
    return Sums(good=total - bad, total=total)


@pytest.mark.parametrize(
    ("example", "sums", "remaining"),
    [
        (1, bad_of(600, 1_000_000), "40.000000"),
        (2, bad_of(1_000, 1_000_000), "0.000000"),
        (3, bad_of(3_000_000, 3_000_000_001), "0.000001"),
        (4, bad_of(3_000_000, 2_999_999_999), "0.000000"),
    ],
)
def test_occurrences_examples(example: int, sums: Sums, remaining: str) -> None:
    assert remaining_percent(sums, OCCURRENCES, TARGET_999, 0) == Decimal(remaining), example


@pytest.mark.parametrize(
    ("example", "bad", "target", "slices_in_window", "remaining"),
    [
        (5, 5, "99.95", 10_080, "0.793651"),
        (6, 6, "99.95", 10_080, "-19.047619"),
        (7, 9, "99.9", 8_640, "-4.166666"),
    ],
)
def test_timeslices_examples(example: int, bad: int, target: str, slices_in_window: int, remaining: str) -> None:
    sums = Sums(good=0, total=1, slices=100, bad_slices=bad)
    assert remaining_percent(sums, TIMESLICES, Decimal(target), slices_in_window) == Decimal(remaining), example


def test_a_slice_at_its_target_is_good_and_just_below_it_bad() -> None:
    assert measure(99, 100, TIMESLICES, Decimal(99)).bad_slices == 0
    assert measure(989, 1000, TIMESLICES, Decimal(99)).bad_slices == 1


def test_ratio_timeslices_example_8() -> None:
    sums = NOTHING
    for good, total in ((100, 100), (98, 100), (2, 3), (0, 0)):
        sums = sums.plus(measure(good, total, RATIO_TIMESLICES, None))
    assert sums.slices == 3
    assert remaining_percent(sums, RATIO_TIMESLICES, Decimal(95), 0) == Decimal("-135.555555")


@pytest.mark.parametrize("method", [OCCURRENCES, TIMESLICES, RATIO_TIMESLICES])
def test_without_events_nothing_is_spent(method: str) -> None:
    assert remaining_percent(measure(0, 0, method, Decimal(99)), method, TARGET_999, 10_080) == 100


counts = st.integers(0, 10**12).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))
targets = st.integers(1, 10**8 - 1).map(lambda unscaled: Decimal(unscaled).scaleb(-6))


@given(st.lists(counts, max_size=20), targets)
def test_the_published_remaining_is_the_exact_one_rounded_up(windows: list[tuple[int, int]], target: Decimal) -> None:
    good, total = sum(good for good, _ in windows), sum(total for _, total in windows)
    published = remaining_percent(Sums(good, total), OCCURRENCES, target, 0)
    exact = Fraction(100) if total == 0 else 100 * (1 - Fraction(total - good, total) / (1 - Fraction(target) / 100))
    assert 0 <= Fraction(published) - exact < Fraction(1, 10**6)
    assert (published <= 0) == (exact <= 0)
    assert abs(published) < 10**12  # fits decimal(18, 6)


@given(st.integers(1, 10**12).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_ratios_round_half_even(counts: tuple[int, int]) -> None:
    good, total = counts
    assert half_even_ratio(good, total) == round(Fraction(good, total) * 10**18)
