"""Pipelines of several aggregates on one real PostgreSQL, one after the other or at once, and what they left there."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg

from tests.support.records import CODEC, NOW
from tests.support.roles import as_writer
from worker.domain.aggregate import AGGREGATES
from worker.domain.fields import parse_rfc3339
from worker.domain.ids import uid
from worker.domain.outcome import Context
from worker.emission import Emitter
from worker.pipeline import Intake
from worker.postgres.connection import UnitOpener, connect
from worker.postgres.storages import STORAGES
from worker.recovery import process_reliably
from worker.topics import facts_topic, intents_topic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.domain.aggregate import Aggregate
    from worker.envelope import Record
    from worker.postgres.storage import Subject

PARTITIONS = {"sre.intents.rejected.v1": 12} | {facts_topic(name): 12 for name in AGGREGATES}


def intake(database: str, aggregate: Aggregate, opener: UnitOpener | None = None) -> Intake:
    return Intake(
        topic=intents_topic(aggregate.name),
        aggregate=aggregate,
        emitter=Emitter(CODEC, PARTITIONS),
        open_unit=opener or UnitOpener(as_writer(database), STORAGES),
        now=lambda: NOW,
        inbox_retention=timedelta(days=30),
    )


def process(database: str, *batches: Sequence[Record]) -> None:
    """Batches of any intent topics, one after the other, as one worker takes them."""

    async def in_turn() -> None:
        for batch in batches:
            await process_one(database, batch)

    asyncio.run(in_turn())


async def process_one(database: str, batch: Sequence[Record]) -> None:
    """A batch on a connection of its own."""
    opener = UnitOpener(as_writer(database), STORAGES)
    try:
        await process_reliably(batch, intake(database, aggregate_of(batch), opener))
    finally:
        await opener.close()


def aggregate_of(batch: Sequence[Record]) -> Aggregate:
    return AGGREGATES[batch[0].topic.split(".")[1]]


def query(database: str, statement: str, *parameters: object) -> list[Any]:
    with psycopg.connect(database) as connection:
        connection.execute("SET TIME ZONE 'UTC'")
        return connection.execute(statement.encode(), parameters).fetchall()


def outcomes(database: str) -> dict[str, str]:
    """The outcome, or the code, of each intent by its id."""
    return dict(query(database, "SELECT intent_id, coalesce(code, outcome) FROM inbox"))


def stored(database: str) -> dict[Subject, Any]:
    """Every state as it lies in the tables."""

    async def read() -> dict[str, Any]:
        connection = await connect(database)
        try:
            return {name: await storage.read_all(connection) for name, storage in STORAGES.items()}
        finally:
            await connection.close()

    return {(name, *key): state for name, states in asyncio.run(read()).items() for key, state in states.items()}


def facts(database: str) -> dict[Subject, list[tuple[int, Any, Context, str]]]:
    """(version, fact, context, causing intent) of every fact of the outbox, by version."""
    found: dict[Subject, list[tuple[int, Any, Context, str]]] = defaultdict(list)
    rows = query(
        database,
        "SELECT aggregatetype, tenant_id, aggregateid, aggregate_version, type, payload, ce_time, causation_id "
        "FROM outbox WHERE aggregate_version IS NOT NULL ORDER BY aggregate_version",
    )
    for name, tenant_id, aggregate_id, version, ce_type, payload, ce_time, causation_id in rows:
        record = ce_type.rpartition(".")[2]
        fact = AGGREGATES[name].facts[record].validate_python(CODEC.decode(record, payload))
        context = Context(tenant_id, aggregate_id, parse_rfc3339(ce_time))
        found[name, tenant_id, aggregate_id].append((version, fact, context, causation_id))
    return found


def assert_sound(database: str) -> None:
    """Versions run without gap, folding the facts gives the rows, and inbox and outbox name the same facts."""
    told = facts(database)
    folded: dict[Subject, Any] = {}
    for subject, versions in told.items():
        assert [version for version, *_ in versions] == list(range(1, len(versions) + 1)), subject
        for _, fact, context, _ in versions:
            folded[subject] = AGGREGATES[subject[0]].evolve(folded.get(subject), fact, context)
    assert folded == stored(database)
    caused: dict[tuple[str, str], set[Any]] = defaultdict(set)
    for (name, tenant_id, aggregate_id), versions in told.items():
        for version, _, _, causation_id in versions:
            caused[tenant_id, causation_id].add(uid("fact", tenant_id, name, aggregate_id, str(version)))
    recorded = query(database, "SELECT tenant_id, intent_id, fact_ids FROM inbox WHERE outcome = 'facts'")
    assert {(tenant_id, intent_id): set(fact_ids) for tenant_id, intent_id, fact_ids in recorded} == caused
