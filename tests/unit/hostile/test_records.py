"""Each hostile record has one verdict with a code that was foreseen, and its rejection fits everywhere; little is spent on it."""

from __future__ import annotations

import tracemalloc

import pytest

from tests.fuzz.limits import MEMORY_BYTES
from tests.fuzz.oracles import verdict_of
from tests.support.hostile import Hostile, good, hostile_records, to_record
from worker.receiving import Fit

RECORDS = hostile_records()


@pytest.mark.parametrize("hostile", [pytest.param(hostile, id=name) for name, hostile in RECORDS.items()])
def test_a_hostile_record_gets_a_code_that_was_foreseen(hostile: Hostile) -> None:
    tracemalloc.start()
    try:
        verdict = verdict_of(to_record(hostile))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    code = None if isinstance(verdict, Fit) else verdict.rejection.code.value
    assert code in hostile.codes
    assert peak < MEMORY_BYTES


def test_the_record_that_they_are_made_of_is_taken() -> None:
    assert isinstance(verdict_of(to_record(good(1))), Fit)
