"""The demonstration's story, played through the real decisions without a server: what clients would observe, and the evidence of it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tests.support.records import CODEC, NOW, Topic
from worker.audit import Evidence, Outcome, header_values
from worker.decisions import Decisions
from worker.demo.asking import content
from worker.demo.run import Observed
from worker.domain.aggregate import AGGREGATES
from worker.domain.rejection import IntentRejected, RecordHeader, Violation
from worker.emission import Emitter
from worker.messages import ReceivedFact
from worker.partitioner import partition_of
from worker.pipeline import decide
from worker.receiving import receive
from worker.topics import PARTITIONS, REJECTED_TOPIC, facts_topic, intents_topic

if TYPE_CHECKING:
    from worker.demo.story import Story
    from worker.envelope import Record
    from worker.postgres.inbox import InboxRow
    from worker.postgres.outbox import OutboxRow

COUNTS = {REJECTED_TOPIC: PARTITIONS, **{facts_topic(name): PARTITIONS for name in AGGREGATES}}
LATENCY_SECONDS = 0.25


def perform(story: Story) -> tuple[Observed, Evidence]:
    """Every intent is sent one second after the one before, and its first fact comes LATENCY_SECONDS later."""
    emitter = Emitter(CODEC, COUNTS)
    earlier: dict[Any, Any] = {}
    states: dict[Any, Any] = {}
    incoming = {intents_topic(name): Topic(intents_topic(name)) for name in AGGREGATES}
    outgoing = {name: Topic(name) for name in COUNTS}
    records: list[Record] = []
    published: list[Record] = []
    outcomes: list[Outcome] = []
    outbox_ids: list[UUID] = []
    for asked in story.all:
        topic, (key, value, headers) = incoming[asked.record.topic], content(asked)
        record = topic.append_raw(key, value, headers, partition=partition_of(key, PARTITIONS))
        aggregate = AGGREGATES[asked.record.topic.split(".")[1]]
        decisions = Decisions(aggregate.name, emitter, earlier, states)
        decide(receive(record, aggregate, CODEC, NOW, timedelta(days=30)), decisions, aggregate)
        records.append(record)
        rows = decisions.outbox_rows
        published += [outgoing[row.topic].append_raw(row.key, row.payload, headers_of(row), partition=row.partition) for row in rows]
        outcomes += [outcome_of(row, topic.name) for row in decisions.inbox_rows]
        outbox_ids += [row.id for row in rows]
    return observe(story, published), Evidence(records, published, outcomes, outbox_ids, states, COUNTS)


def outcome_of(row: InboxRow, topic: str) -> Outcome:
    fact_ids = [UUID(fact_id) for fact_id in row.fact_ids.strip("{}").split(",") if fact_id]
    return Outcome(row.tenant_id, row.intent_id, row.content_hash, topic, row.partition, row.offset, row.outcome, row.code, fact_ids)


def observe(story: Story, published: list[Record]) -> Observed:
    observed = Observed(published=len(story.all), records=published)
    for second, asked in enumerate(story.all):
        observed.sent_at.setdefault(asked.intent_id, float(second))
    for record in published:
        if record.topic == REJECTED_TOPIC:
            observed.rejections.append(rejection_of(record))
        else:
            fact = fact_of(record)
            observed.facts.append(fact)
            observed.first_fact_at.setdefault(fact.causation_id, observed.sent_at[fact.causation_id] + LATENCY_SECONDS)
    return observed


def fact_of(record: Record) -> ReceivedFact:
    headers = header_values(record)
    name = headers["ce_type"].rpartition(".")[2]
    return ReceivedFact(
        headers["ce_id"],
        headers["ce_tenantid"],
        headers["ce_aggregatetype"],
        headers["ce_aggregateid"],
        int(headers["ce_aggregateversion"]),
        headers["ce_time"],
        headers["ce_causationid"],
        AGGREGATES[headers["ce_aggregatetype"]].facts[name].validate_python(CODEC.decode(name, record.value or b"")),
        record.topic,
        record.partition,
        record.offset,
    )


def rejection_of(record: Record) -> IntentRejected:
    fields = CODEC.decode("IntentRejected", record.value or b"")
    headers = tuple(RecordHeader(**header) for header in fields.pop("headers"))
    violations = tuple(Violation(**violation) for violation in fields.pop("violations"))
    return IntentRejected(**fields, headers=headers, violations=violations)


def headers_of(row: OutboxRow) -> list[tuple[str, bytes]]:
    values = {
        "ce_id": str(row.id),
        "ce_type": row.type,
        "ce_time": row.ce_time,
        "ce_tenantid": row.tenant_id,
        "ce_causationid": row.causation_id,
        "ce_aggregatetype": row.aggregatetype,
        "ce_aggregateid": row.aggregateid,
        "ce_aggregateversion": None if row.aggregate_version is None else str(row.aggregate_version),
    }
    return [(name, value.encode()) for name, value in values.items() if value is not None]
