"""What holds for every aggregate: outcomes, publications, ids, partitions, versions, folds and rejections."""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import reduce
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from worker.audit.observed import header_values, place, repeated, subject_of
from worker.domain.aggregate import AGGREGATES
from worker.domain.ids import uid
from worker.partitioner import partition_of
from worker.receiving import content_hash
from worker.topics import REJECTED_TOPIC, facts_topic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from worker.audit.observed import Evidence, Outcome, SeenFact, Subject
    from worker.codec import Codec
    from worker.envelope import Record

# A rejection's cuts, docs/contract.md, "Rejections".
_KEY_BYTES: Final = 64 * 1024
_HEADERS_BYTES: Final = 256 * 1024
_HEADERS: Final = 16_384
_WHOLE_VALUE_BYTES: Final = 1024 * 1024
_CUT_VALUE_BYTES: Final = 256 * 1024


def breaches(evidence: Evidence, seen: Sequence[SeenFact], codec: Codec) -> Iterator[str]:
    facts = [record for record in evidence.published if record.topic != REJECTED_TOPIC]
    rejections = [record for record in evidence.published if record.topic == REJECTED_TOPIC]
    yield from _each_record_has_one_outcome(evidence)
    yield from _outcomes_and_publications_match(evidence, facts, rejections)
    yield from _facts_are_where_they_belong(facts, evidence.partitions)
    yield from _versions_run_without_gap(facts)
    yield from _folding_gives_the_row(seen, evidence.states)
    yield from _rejections_hold_the_record(evidence, rejections, codec)


def _each_record_has_one_outcome(evidence: Evidence) -> Iterator[str]:
    by_position = Counter(outcome[3:6] for outcome in evidence.outcomes)
    by_intent = {outcome[:2]: outcome.content_hash for outcome in evidence.outcomes if outcome.tenant_id}
    yield from repeated(1, "outcomes for one record", by_position)
    yield from repeated(1, "outcomes for one id", Counter(outcome[:2] for outcome in evidence.outcomes))
    for record in evidence.intents:
        headers = header_values(record)
        intent = (headers.get("ce_tenantid", ""), headers.get("ce_id", ""))
        if record[:3] not in by_position and by_intent.get(intent) != content_hash(record):
            yield f"1: no outcome for {place(record)} ({'/'.join(intent)})"


def _outcomes_and_publications_match(evidence: Evidence, facts: Sequence[Record], rejections: Sequence[Record]) -> Iterator[str]:
    published = Counter(UUID(header_values(record)["ce_id"]) for record in evidence.published)
    yield from repeated(2, "publications of one id", published)
    recorded = {fact_id: outcome for outcome in evidence.outcomes for fact_id in outcome.fact_ids}
    for outcome in evidence.outcomes:
        if (outcome.outcome == "facts") != bool(outcome.fact_ids):
            yield f"2: {outcome.outcome} with {len(outcome.fact_ids)} facts for {outcome.intent_id}"
    expected = {rejection_id(outcome) for outcome in evidence.outcomes if outcome.outcome == "rejected"}
    seen_facts = {UUID(header_values(record)["ce_id"]): record for record in facts}
    seen_rejections = {UUID(header_values(record)["ce_id"]) for record in rejections}
    yield from (f"2: fact {missing} of {recorded[missing].intent_id} was never published" for missing in recorded.keys() - seen_facts)
    yield from (f"2: fact {stray} belongs to no outcome ({place(seen_facts[stray])})" for stray in seen_facts.keys() - recorded)
    yield from (f"2: rejection {missing} was never published" for missing in expected - seen_rejections)
    yield from (f"2: rejection {stray} belongs to no outcome" for stray in seen_rejections - expected)
    yield from repeated(3, "outbox rows of one id", Counter(evidence.outbox_ids))
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
            yield f"3: {place(record)} has an id that does not follow from its version"
        if record.key != f"{subject}/{version}".encode():
            yield f"4: {place(record)} has key {record.key!r}"
        if record.topic != facts_topic(aggregate) or record.partition != partition_of(subject.encode(), partitions[record.topic]):
            yield f"4: {place(record)} lies in the wrong partition for {subject}"


def _versions_run_without_gap(facts: Iterable[Record]) -> Iterator[str]:
    last: dict[Subject, int] = defaultdict(int)
    for record in facts:
        subject, version = subject_of(record), int(header_values(record)["ce_aggregateversion"])
        if version != last[subject] + 1:
            yield f"4: {place(record)} is version {version} of {'/'.join(subject)} after {last[subject]}"
        last[subject] = max(last[subject], version)


def _folding_gives_the_row(facts: Iterable[SeenFact], states: Mapping[Subject, Any]) -> Iterator[str]:
    by_subject: dict[Subject, list[SeenFact]] = defaultdict(list)
    for seen in facts:
        by_subject[seen.subject].append(seen)
    for subject in by_subject.keys() ^ states.keys():
        yield f"5: {'/'.join(subject)} has {'no row' if subject in by_subject else 'no facts'}"
    for subject in by_subject.keys() & states.keys():
        try:
            folded = reduce(_evolve, by_subject[subject], None)
        except ValueError as error:
            yield f"5: {'/'.join(subject)} does not fold: {error}"
            continue
        if folded != states[subject]:
            yield f"5: {'/'.join(subject)} folds to version {getattr(folded, 'version', None)}, its row has {states[subject].version}"


def _evolve(state: Any, seen: SeenFact) -> Any:  # noqa: ANN401 - any aggregate's
    return AGGREGATES[seen.subject[0]].evolve(state, seen.fact, seen.context)


def _rejections_hold_the_record(evidence: Evidence, rejections: Iterable[Record], codec: Codec) -> Iterator[str]:
    intents = {record[:3]: record for record in evidence.intents}
    for record in rejections:
        held = codec.decode("IntentRejected", record.value or b"")
        original = intents.get((held["topic"], held["partition"], held["offset"]))
        if original is None or not _holds(held, original):
            yield f"8: {place(record)} does not hold the record it refuses"


def _holds(held: Mapping[str, Any], original: Record) -> bool:
    """Byte for byte, up to the cuts."""
    value, headers = original.value, [(header["name"], header["value"]) for header in held["headers"]]
    count, cut_value = len(headers), value if value is None or len(value) <= _WHOLE_VALUE_BYTES else value[:_CUT_VALUE_BYTES]
    one_more = sum(len(name.encode()) + len(text or b"") for name, text in original.headers[: count + 1])
    is_as_long_as_it_may_be = count == len(original.headers) or count == _HEADERS or one_more > _HEADERS_BYTES
    return (
        held["key"] == (original.key and original.key[:_KEY_BYTES])
        and held["value"] == cut_value
        and (held["value_size"], held["value_sha256"]) == (len(value or b""), sha256(value or b"").hexdigest())
        and headers == list(original.headers[:count])
        and is_as_long_as_it_may_be
    )
