"""The laws of docs/contract.md, "Invariants", held against what Kafka and PostgreSQL really hold.

Pure: it is given what was read and names every breach. Knows the contract and the fold, nothing of how either came about.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from worker.domain.aggregate import AGGREGATES
from worker.domain.fields import parse_rfc3339
from worker.domain.ids import uid
from worker.domain.outcome import Context
from worker.partitioner import partition_of
from worker.receiving import content_hash
from worker.topics import REJECTED_TOPIC, facts_topic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from worker.codec import Codec
    from worker.envelope import Record

Subject = tuple[str, str, str]
"""Aggregate type, tenant, aggregate id."""


class Outcome(NamedTuple):
    """A row of the inbox."""

    tenant_id: str
    intent_id: str
    content_hash: bytes
    topic: str
    partition: int
    offset: int
    outcome: str
    code: str | None
    fact_ids: list[UUID]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that was read: the intent topics whole, the outgoing topics as a read_committed reader saw them, and the tables.

    `published` is in the order in which it was read; `states` by subject.
    """

    intents: Sequence[Record]
    published: Sequence[Record]
    outcomes: Sequence[Outcome]
    outbox_ids: Sequence[UUID]
    states: Mapping[Subject, Any]
    partitions: Mapping[str, int]


def breaches(evidence: Evidence, codec: Codec) -> list[str]:
    """One line for each breach, beginning with the number of the invariant; empty where all laws hold."""
    facts = [record for record in evidence.published if record.topic != REJECTED_TOPIC]
    rejections = [record for record in evidence.published if record.topic == REJECTED_TOPIC]
    return [
        *_each_record_has_one_outcome(evidence),
        *_outcomes_and_publications_match(evidence, facts, rejections),
        *_facts_are_where_they_belong(facts, evidence.partitions),
        *_versions_run_without_gap(facts),
        *_folding_gives_the_row(facts, evidence.states, codec),
        *_rejections_hold_the_record(evidence, rejections, codec),
        *_crossings_alternate(facts),
    ]


def _each_record_has_one_outcome(evidence: Evidence) -> Iterator[str]:
    by_position = Counter(outcome[3:6] for outcome in evidence.outcomes)
    by_intent = {outcome[:2]: outcome.content_hash for outcome in evidence.outcomes if outcome.tenant_id}
    yield from _repeated(1, "outcomes for one record", by_position)
    yield from _repeated(1, "outcomes for one id", Counter(outcome[:2] for outcome in evidence.outcomes))
    for record in evidence.intents:
        headers = header_values(record)
        intent = (headers.get("ce_tenantid", ""), headers.get("ce_id", ""))
        if record[:3] not in by_position and by_intent.get(intent) != content_hash(record):
            yield f"1: no outcome for {_place(record)} ({'/'.join(intent)})"


def _outcomes_and_publications_match(evidence: Evidence, facts: Sequence[Record], rejections: Sequence[Record]) -> Iterator[str]:
    published = Counter(UUID(header_values(record)["ce_id"]) for record in evidence.published)
    yield from _repeated(2, "publications of one id", published)
    recorded = {fact_id: outcome for outcome in evidence.outcomes for fact_id in outcome.fact_ids}
    for outcome in evidence.outcomes:
        if (outcome.outcome == "facts") != bool(outcome.fact_ids):
            yield f"2: {outcome.outcome} with {len(outcome.fact_ids)} facts for {outcome.intent_id}"
    expected = {rejection_id(outcome) for outcome in evidence.outcomes if outcome.outcome == "rejected"}
    seen_facts = {UUID(header_values(record)["ce_id"]): record for record in facts}
    seen_rejections = {UUID(header_values(record)["ce_id"]) for record in rejections}
    yield from (f"2: fact {missing} of {recorded[missing].intent_id} was never published" for missing in recorded.keys() - seen_facts)
    yield from (f"2: fact {stray} belongs to no outcome ({_place(seen_facts[stray])})" for stray in seen_facts.keys() - recorded)
    yield from (f"2: rejection {missing} was never published" for missing in expected - seen_rejections)
    yield from (f"2: rejection {stray} belongs to no outcome" for stray in seen_rejections - expected)
    yield from _repeated(3, "outbox rows of one id", Counter(evidence.outbox_ids))
    for stray in set(evidence.outbox_ids) ^ set(published):
        yield f"3: {stray} is only in {'the outbox' if stray not in published else 'a topic'}"
    for fact_id in recorded.keys() & seen_facts:
        if header_values(seen_facts[fact_id]).get("ce_causationid") != recorded[fact_id].intent_id:
            yield f"3: fact {fact_id} names another intent than its outcome does"


def rejection_id(outcome: Outcome) -> UUID:
    if outcome.tenant_id:
        return uid("rejection", outcome.tenant_id, outcome.intent_id)
    return uid("rejection", *outcome.intent_id.split("/"))


def _facts_are_where_they_belong(facts: Iterable[Record], partitions: Mapping[str, int]) -> Iterator[str]:
    for record in facts:
        aggregate, tenant, aggregate_id = subject_of(record)
        version = header_values(record)["ce_aggregateversion"]
        subject = f"{tenant}/{aggregate_id}"
        if UUID(header_values(record)["ce_id"]) != uid("fact", tenant, aggregate, aggregate_id, version):
            yield f"3: {_place(record)} has an id that does not follow from its version"
        if record.key != f"{subject}/{version}".encode():
            yield f"4: {_place(record)} has key {record.key!r}"
        if record.topic != facts_topic(aggregate) or record.partition != partition_of(subject.encode(), partitions[record.topic]):
            yield f"4: {_place(record)} lies in the wrong partition for {subject}"


def _versions_run_without_gap(facts: Iterable[Record]) -> Iterator[str]:
    last: dict[Subject, int] = defaultdict(int)
    for record in facts:
        subject, version = subject_of(record), int(header_values(record)["ce_aggregateversion"])
        if version != last[subject] + 1:
            yield f"4: {_place(record)} is version {version} of {'/'.join(subject)} after {last[subject]}"
        last[subject] = max(last[subject], version)


def _folding_gives_the_row(facts: Iterable[Record], states: Mapping[Subject, Any], codec: Codec) -> Iterator[str]:
    by_subject: dict[Subject, list[Record]] = defaultdict(list)
    for record in facts:
        by_subject[subject_of(record)].append(record)
    for subject in by_subject.keys() ^ states.keys():
        yield f"5: {'/'.join(subject)} has {'no row' if subject in by_subject else 'no facts'}"
    for subject in by_subject.keys() & states.keys():
        try:
            folded = reduce(lambda state, record: _evolve(subject, state, record, codec), by_subject[subject], None)
        except ValueError as error:
            yield f"5: {'/'.join(subject)} does not fold: {error}"
            continue
        if folded != states[subject]:
            yield f"5: {'/'.join(subject)} folds to version {getattr(folded, 'version', None)}, its row has {states[subject].version}"


def _evolve(subject: Subject, state: Any, record: Record, codec: Codec) -> Any:  # noqa: ANN401 - any aggregate's
    aggregate, headers = AGGREGATES[subject[0]], header_values(record)
    name = headers["ce_type"].rpartition(".")[2]
    fact = aggregate.facts[name].validate_python(codec.decode(name, record.value or b""))
    return aggregate.evolve(state, fact, Context(subject[1], subject[2], parse_rfc3339(headers["ce_time"])))


def _rejections_hold_the_record(evidence: Evidence, rejections: Iterable[Record], codec: Codec) -> Iterator[str]:
    intents = {record[:3]: record for record in evidence.intents}
    for record in rejections:
        held = codec.decode("IntentRejected", record.value or b"")
        original = intents.get((held["topic"], held["partition"], held["offset"]))
        headers = [(header["name"], header["value"]) for header in held["headers"]]
        if original is None or (held["key"], held["value"], headers) != (original.key, original.value, list(original.headers)):
            yield f"8: {_place(record)} does not hold the record it refuses"


def _crossings_alternate(facts: Iterable[Record]) -> Iterator[str]:
    exhausted: dict[Subject, bool] = defaultdict(bool)
    for record in facts:
        name = header_values(record)["ce_type"].rpartition(".")[2]
        if name in ("SLOBudgetExhausted", "SLOBudgetRecovered"):
            now = name == "SLOBudgetExhausted"
            if exhausted[subject_of(record)] == now:
                yield f"12: {_place(record)} crosses the same way twice"
            exhausted[subject_of(record)] = now


def header_values(record: Record) -> dict[str, str]:
    return {name: value.decode(errors="replace") for name, value in record.headers if value is not None}


def subject_of(record: Record) -> Subject:
    headers = header_values(record)
    return headers["ce_aggregatetype"], headers["ce_tenantid"], headers["ce_aggregateid"]


def _repeated(invariant: int, what: str, counts: Counter[Any]) -> Iterator[str]:
    for item, count in counts.items():
        if count > 1:
            yield f"{invariant}: {count} {what}: {item}"


def _place(record: Record) -> str:
    return f"{record.topic}[{record.partition}]@{record.offset}"
