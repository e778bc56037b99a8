"""What the demonstration comes to: the verdict of the audit and the figures of the run."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Final

from worker.audit import breaches, header_values
from worker.demo.asking import content
from worker.envelope import TYPE_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from worker.audit import Evidence, Outcome
    from worker.codec import Codec
    from worker.demo.run import Observed
    from worker.demo.story import Story

NAMELESS: Final = "(a stray record)"


@dataclass(frozen=True, slots=True)
class Result:
    """`intents` counts a repeated record once, `by_intent` has the outcomes of each name on the wire.

    The latencies are of intents sent at a steady pace, None where no fact came.
    """

    broker: str
    intents: int
    repeats: int
    outcomes: Mapping[str, int]
    by_intent: Mapping[str, Mapping[str, int]]
    facts: int
    rejections: Mapping[str, int]
    violations: Sequence[str]
    seconds: float
    intents_per_second: float
    p50_ms: float | None
    p99_ms: float | None


def conclude(story: Story, observed: Observed, evidence: Evidence, codec: Codec, *, broker: str, seconds: float) -> Result:
    intents = len({content(asked) for asked in story.all})
    paced = [asked.intent_id for minute in story.minutes for asked in minute]
    latencies = [
        (observed.first_fact_at[intent_id] - observed.sent_at[intent_id]) * 1000
        for intent_id in dict.fromkeys(paced)
        if intent_id in observed.first_fact_at
    ]
    sending_seconds = observed.sent_at[paced[-1]] - observed.sent_at[paced[0]]
    return Result(
        broker=broker,
        intents=intents,
        repeats=len(story.all) - intents,
        outcomes=_counts(outcome.outcome for outcome in evidence.outcomes),
        by_intent=outcomes_by_intent(evidence),
        facts=len(observed.facts),
        rejections=_counts(rejection.code for rejection in observed.rejections),
        violations=violations(story, observed, evidence, codec),
        seconds=round(seconds, 2),
        intents_per_second=round(len(paced) / sending_seconds, 1),
        p50_ms=percentile(latencies, 50),
        p99_ms=percentile(latencies, 99),
    )


def violations(story: Story, observed: Observed, evidence: Evidence, codec: Codec) -> list[str]:
    """One line for each breach of a law, by a reader that starts now or by one that read all along, and for each unexpected answer."""
    all_along = replace(evidence, published=observed.records)
    return list(dict.fromkeys([*breaches(evidence, codec), *breaches(all_along, codec), *_unexpected_answers(story, evidence)]))


def _unexpected_answers(story: Story, evidence: Evidence) -> Iterator[str]:
    outcomes = {outcome[3:6]: outcome for outcome in evidence.outcomes}
    came = {
        (record.key, record.value, tuple(record.headers)): _answer(outcomes[record[:3]])
        for record in evidence.intents
        if record[:3] in outcomes
    }
    for asked in story.all:
        answer = came.get(content(asked), "no outcome")
        if answer != asked.due:
            yield f"{asked.intent_id or 'a record without id'}: {asked.due} was due, {answer} came"


def outcomes_by_intent(evidence: Evidence) -> dict[str, dict[str, int]]:
    """Under the name without its suffix Requested, or NAMELESS where a record names no intent."""
    names = {record[:3]: header_values(record).get("ce_type", NAMELESS) for record in evidence.intents}
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in evidence.outcomes:
        name = names.get(outcome[3:6], NAMELESS)
        found[name.removeprefix(TYPE_PREFIX).removesuffix("Requested")][outcome.outcome] += 1
    return {name: dict(sorted(found[name].items())) for name in sorted(found)}


def _answer(outcome: Outcome) -> str:
    return outcome.code or outcome.outcome


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The smallest value that `percent` of all do not exceed (nearest rank), to two places."""
    if not values:
        return None
    return round(sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)], 2)


def _counts(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def write(result: Result, file: Path) -> None:
    """As JSON: `violations` is their number, `breaches` has the lines."""
    figures = asdict(result) | {"violations": len(result.violations), "breaches": list(result.violations)}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
