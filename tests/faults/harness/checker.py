"""The verdict: the client's own record and everything in topics and tables, held against the contract."""

from __future__ import annotations

import multiprocessing
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import psycopg
from confluent_kafka import Consumer, TopicPartition
from psycopg.sql import SQL, Literal

from tests.faults.harness.acknowledged import Comparison
from tests.faults.harness.sorter import NOBODY, Sorter
from tests.faults.harness.tenant_audit import Share, audit
from tests.faults.harness.watcher import Trail, Versions, note
from worker.audit import Outcome
from worker.client import read_committed
from worker.domain.aggregate import AGGREGATES
from worker.envelope import salvage
from worker.evidence import outgoing_topics, to_record
from worker.kafka_config import librdkafka_config
from worker.topic_admin import partition_counts
from worker.topics import intents_topic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from confluent_kafka import Message

    from tests.faults.harness.acknowledged import Acknowledged, Partition
    from tests.faults.harness.watcher import Watcher
    from worker.settings import Settings

_AT_A_TIME: Final = 2
_TENANTLESS: Final = SQL(
    'SELECT tenant_id, intent_id, content_hash, topic, partition, "offset", outcome, code, fact_ids FROM inbox WHERE tenant_id = {}'
)
_PLACES: Final = 'SELECT topic, partition, "offset", tenant_id, intent_id FROM inbox'


@dataclass(slots=True)
class Verdict:
    """`losses`, `doubles` and `gaps` are numbers; `breaches` says in one line each what else and what of it.

    `without_place` are acknowledgements without an offset of records that the topic does not have: the client library's, no breach of ours.
    """

    acknowledged: int = 0
    indeterminate: int = 0
    outcomes: int = 0
    facts_and_rejections: int = 0
    losses: int = 0
    doubles: int = 0
    gaps: int = 0
    without_place: list[str] = field(default_factory=list)
    breaches: list[str] = field(default_factory=list)


def check(settings: Settings, acknowledged: Acknowledged, watcher: Watcher, tenants: Sequence[str], directory: Path) -> Verdict:
    """To be called when all is quiet; `directory` takes the sorted records."""
    verdict = Verdict(indeterminate=acknowledged.indeterminate)
    with ExitStack() as stack:
        intents = Sorter(directory / "intents", tenants, stack)
        published = Sorter(directory / "published", tenants, stack)
        tenantless = {outcome[3:6]: outcome for outcome in _tenantless(settings)}
        owners: dict[str, list[Outcome]] = defaultdict(list)
        comparison = Comparison(acknowledged)
        for message in _read(settings, [intents_topic(name) for name in AGGREGATES]):
            record = to_record(message)
            tenant = intents.tenant_of(salvage(record).tenant_id)
            intents.add(tenant, record)
            if (outcome := tenantless.pop(record[:3], None)) is not None:
                owners[tenant].append(outcome)
            comparison.see(record)
        comparison.end()
        verdict.acknowledged = acknowledged.count
        verdict.without_place = comparison.without_place
        verdict.breaches += comparison.breaches
        verdict.breaches += [f"2: outcome for no record: {place}" for place in tenantless]
        _check_publications(settings, watcher, published, verdict)
        intents.end()
    _check_outcomes(settings, acknowledged, verdict)
    verdict.breaches += _audited(settings, _shares(settings, intents, published, owners))
    verdict.losses += sum(line.endswith("was never published") or "not in its topic" in line for line in verdict.breaches)
    verdict.doubles += sum("publications of one id" in line or "outcomes for one" in line for line in verdict.breaches)
    return verdict


def _shares(settings: Settings, intents: Sorter, published: Sorter, owners: Mapping[str, list[Outcome]]) -> Iterator[Share]:
    outbox = _outbox_ids(settings, intents)
    for tenant, path in intents.paths.items():
        outcomes, ids = owners.get(tenant, []), bytes(outbox.pop(tenant, b""))
        yield Share(tenant=tenant, intents=path, published=published.paths[tenant], outcomes=outcomes, outbox_ids=ids)


def _audited(settings: Settings, shares: Iterable[Share]) -> list[str]:
    partitions = partition_counts(settings, outgoing_topics())
    with ProcessPoolExecutor(_AT_A_TIME, multiprocessing.get_context("spawn")) as pool:
        return [line for lines in pool.map(partial(audit, settings, partitions), shares) for line in lines]


def _check_publications(settings: Settings, watcher: Watcher, published: Sorter, verdict: Verdict) -> None:
    """A reader that starts now against the one that ran throughout; what both saw is then audited once."""
    trail, versions = Trail(), Versions()
    for message in _read(settings, outgoing_topics()):
        note(trail, versions, message)
        record = to_record(message)
        tenant = dict(record.headers).get("ce_tenantid") or b""
        published.add(published.tenant_of(tenant.decode()), record)
    published.end()
    verdict.facts_and_rejections = trail.count
    if watcher.ended_by is not None:
        verdict.breaches.append(f"4: the reader that ran throughout ended: {watcher.ended_by!r}")
    for who, seen in (("that ran throughout", watcher.versions), ("that starts at the end", versions)):
        verdict.gaps += len(seen.gaps)
        verdict.doubles += len(seen.doubles)
        verdict.breaches += [f"4: for the reader {who}: {line}" for line in (*seen.gaps, *seen.doubles)]
    verdict.breaches += [f"4: {line}" for line in watcher.trail.differences(trail)]


def _check_outcomes(settings: Settings, acknowledged: Acknowledged, verdict: Verdict) -> None:
    """Every acknowledged record has one outcome: at its own place, or at that of the first of its copies."""
    outcomes_at: dict[Partition, bytearray] = defaultdict(bytearray)
    copied = {(copy.tenant_id, copy.intent_id) for copy in acknowledged.copies}
    outcomes_of: Counter[tuple[str, str]] = Counter()
    with psycopg.connect(settings.writer_dsn) as connection, connection.cursor("places") as cursor:
        cursor.itersize = 10_000
        for topic, partition, offset, tenant, intent in cursor.execute(_PLACES):
            verdict.outcomes += 1
            counts = outcomes_at[topic, partition]
            if offset >= len(counts):
                counts.extend(bytes(offset + 1_000 - len(counts)))
            counts[offset] = min(255, counts[offset] + 1)
            if (tenant, intent) in copied:
                outcomes_of[tenant, intent] += 1
    copies = {copy[:3]: (copy.tenant_id, copy.intent_id) for copy in acknowledged.copies}
    for (topic, partition), lane in acknowledged.lanes.items():
        counts = outcomes_at[topic, partition]
        for offset in lane.offsets:
            own = counts[offset] if offset < len(counts) else 0
            intent = copies.get((topic, partition, offset))
            due = own if intent is None else outcomes_of[intent]
            if due == 0:
                due = _outcomes_of_what_lies_at(settings, topic, partition, offset)
            if due == 0:
                verdict.losses += 1
                verdict.breaches.append(f"1: no outcome for what was acknowledged at {topic}[{partition}]@{offset}")
            elif due > 1:
                verdict.doubles += 1
                verdict.breaches.append(f"1: {due} outcomes for what was acknowledged at {topic}[{partition}]@{offset}")


def _outcomes_of_what_lies_at(settings: Settings, topic: str, partition: int, offset: int) -> int:
    """Of the record's intent, wherever they are: a client that lost its connection may have appended a copy, at a place it never knew."""
    config = {**librdkafka_config(settings), "group.id": "checker", "enable.auto.commit": False, "auto.offset.reset": "error"}
    with closing(Consumer(config)) as consumer, psycopg.connect(settings.writer_dsn) as connection:
        consumer.assign([TopicPartition(topic, partition, offset)])
        message = consumer.poll(20)
        if message is None or message.error() is not None or message.offset() != offset:
            return 0
        saved = salvage(to_record(message))
        return connection.execute("SELECT FROM inbox WHERE tenant_id = %s AND intent_id = %s", [saved.tenant_id, saved.intent_id]).rowcount


def _outbox_ids(settings: Settings, sorter: Sorter) -> dict[str, bytearray]:
    """Sixteen bytes each, by tenant; read once, since no index leads to a tenant's."""
    ids: dict[str, bytearray] = defaultdict(bytearray)
    with psycopg.connect(settings.writer_dsn) as connection, connection.cursor("ids", binary=True) as cursor:
        cursor.itersize = 10_000
        for tenant, row_id in cursor.execute("SELECT tenant_id, id FROM outbox"):
            ids[sorter.tenant_of(tenant)] += row_id.bytes
    return ids


def _tenantless(settings: Settings) -> list[Outcome]:
    with psycopg.connect(settings.writer_dsn) as connection:
        return [Outcome(*row) for row in connection.execute(_TENANTLESS.format(Literal(NOBODY))).fetchall()]


def _read(settings: Settings, topics: Sequence[str]) -> Iterator[Message]:
    with closing(read_committed(settings, topics, from_beginning=True)) as messages:  # type: ignore[type-var]
        yield from messages
