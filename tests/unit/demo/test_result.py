"""The verdict and the figures, from sound evidence and from evidence that was tampered with."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.records import CODEC
from tests.unit.demo.in_memory import LATENCY_SECONDS
from worker.demo.asking import content
from worker.demo.result import conclude, percentile, violations, write
from worker.demo.run import Observed

if TYPE_CHECKING:
    from pathlib import Path

    from worker.audit import Evidence
    from worker.demo.result import Result
    from worker.demo.story import Story


def conclusion(story: Story, observed: Observed, evidence: Evidence) -> Result:
    return conclude(story, observed, evidence, CODEC, broker="tansu", seconds=12.345)


def test_a_sound_run_has_no_violation_and_its_figures_add_up(story: Story, observed: Observed, evidence: Evidence) -> None:
    result = conclusion(story, observed, evidence)
    assert result.violations == []
    assert result.intents == sum(result.outcomes.values()) == len({content(asked) for asked in story.all})
    assert result.intents + result.repeats == len(story.all)
    assert sum(result.rejections.values()) == result.outcomes["rejected"]
    assert result.facts == sum(len(outcome.fact_ids) for outcome in evidence.outcomes) > result.outcomes["facts"]
    assert result.p50_ms == result.p99_ms == LATENCY_SECONDS * 1000
    assert result.seconds == 12.35  # to two places
    assert result.intents_per_second == pytest.approx(1, abs=0.1)


def test_a_fact_that_no_reader_got_is_a_violation(story: Story, observed: Observed, evidence: Evidence) -> None:
    found = violations(story, observed, replace(evidence, published=evidence.published[:-1]), CODEC)
    assert any(line.startswith("2: fact") and line.endswith("was never published") for line in found)


def test_a_fact_that_only_the_reader_of_all_along_missed_is_a_violation(story: Story, observed: Observed, evidence: Evidence) -> None:
    deaf = Observed(records=observed.records[:-1])
    assert any("was never published" in line for line in violations(story, deaf, evidence, CODEC))


def test_a_breach_that_both_readers_see_is_named_once(story: Story, observed: Observed, evidence: Evidence) -> None:
    tampered = replace(evidence, outcomes=[*evidence.outcomes, evidence.outcomes[0]])
    found = violations(story, observed, tampered, CODEC)
    assert sum("outcomes for one id" in line for line in found) == 1


def test_an_intent_without_outcome_is_a_violation(story: Story, observed: Observed, evidence: Evidence) -> None:
    lost = story.creations[0].intent_id
    found = violations(story, observed, replace(evidence, outcomes=evidence.outcomes[1:]), CODEC)
    assert f"{lost}: facts was due, no outcome came" in found


def test_an_intent_that_kafka_does_not_hold_is_a_violation(story: Story, observed: Observed, evidence: Evidence) -> None:
    lost = story.creations[0].intent_id
    found = violations(story, observed, replace(evidence, intents=evidence.intents[1:]), CODEC)
    assert f"{lost}: facts was due, no outcome came" in found


def test_another_answer_than_the_one_due_is_a_violation(story: Story, observed: Observed, evidence: Evidence) -> None:
    number = next(number for number, outcome in enumerate(evidence.outcomes) if outcome.code == "SLI_COUNTS_INVALID")
    outcomes = list(evidence.outcomes)
    outcomes[number] = outcomes[number]._replace(code="LIMIT_EXCEEDED")
    found = violations(story, observed, replace(evidence, outcomes=outcomes), CODEC)
    assert found == [f"{outcomes[number].intent_id}: SLI_COUNTS_INVALID was due, LIMIT_EXCEEDED came"]


def test_a_fact_that_nobody_can_read_is_a_violation(story: Story, observed: Observed, evidence: Evidence) -> None:
    garbled = evidence.published[0]._replace(value=b"\xc3\x01garbage")
    found = violations(story, observed, replace(evidence, published=[garbled, *evidence.published[1:]]), CODEC)
    assert any(line.startswith(f"5: {garbled.topic}[{garbled.partition}]@0 is no fact") for line in found)


def test_a_run_without_facts_has_no_latency(story: Story, evidence: Evidence, observed: Observed) -> None:
    result = conclusion(story, Observed(sent_at=observed.sent_at), evidence)
    assert (result.p50_ms, result.p99_ms) == (None, None)
    assert result.violations


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([*range(1, 101)], 50, 50),
        ([*range(100, 0, -1)], 99, 99),
        ([*range(1, 1001)], 99, 990),
        ([3, 1, 2], 50, 2),
        ([1, 2, 3, 4], 50, 2),
        ([7.123], 99, 7.12),
        ([5, 1], 1, 1),
    ],
)
def test_a_percentile_is_the_value_of_the_nearest_rank(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == expected


def test_nothing_has_no_percentile() -> None:
    assert percentile([], 50) is None


def test_the_figures_are_written_as_json_with_every_breach(story: Story, observed: Observed, evidence: Evidence, tmp_path: Path) -> None:
    result = replace(conclusion(story, observed, evidence), violations=["1: no outcome", "4: a gap"])
    file = tmp_path / "build" / "demo.json"
    write(result, file)
    figures = json.loads(file.read_text())
    assert figures == {
        "broker": "tansu",
        "intents": result.intents,
        "repeats": result.repeats,
        "outcomes": result.outcomes,
        "by_intent": result.by_intent,
        "facts": result.facts,
        "rejections": result.rejections,
        "violations": 2,
        "seconds": 12.35,
        "intents_per_second": result.intents_per_second,
        "p50_ms": 250,
        "p99_ms": 250,
        "breaches": ["1: no outcome", "4: a gap"],
    }
