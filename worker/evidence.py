"""Reads what an audit is held against: the topics from their beginning and the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from psycopg import AsyncConnection

from worker.audit import Evidence, Outcome
from worker.client import read_committed
from worker.domain.aggregate import AGGREGATES
from worker.envelope import Record
from worker.postgres.named_sql import statements
from worker.postgres.storages import STORAGES
from worker.topics import REJECTED_TOPIC, facts_topic, intents_topic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from confluent_kafka import Message

    from worker.settings import KafkaSettings, Settings


async def gather_evidence(settings: Settings, partitions: Mapping[str, int], published: Sequence[Record] | None = None) -> Evidence:
    """Read everything as it is now, in the relay's role, which sees all tenants.

    `published` stands in for the outgoing topics where somebody has read them all along.
    """
    intents = read_records(settings, [intents_topic(name) for name in AGGREGATES])
    if published is None:
        published = read_records(settings, outgoing_topics())
    async with await AsyncConnection.connect(settings.relay_dsn) as connection:
        await connection.execute("SET TIME ZONE 'UTC'")
        await connection.execute(statements("relay")["see_every_row"])
        outcomes = [Outcome(*row) for row in await _rows(connection, "outcomes")]
        outbox_ids = [row[0] for row in await _rows(connection, "outbox_ids")]
        states = {(name, *key): state for name, storage in STORAGES.items() for key, state in (await storage.read_all(connection)).items()}
    return Evidence(intents, published, outcomes, outbox_ids, states, partitions)


def outgoing_topics() -> list[str]:
    return [*(facts_topic(name) for name in AGGREGATES), REJECTED_TOPIC]


def read_records(settings: KafkaSettings, topics: Sequence[str]) -> list[Record]:
    return [to_record(message) for message in read_committed(settings, topics, from_beginning=True)]


def to_record(message: Message) -> Record:
    headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    key, value = message.key(), message.value()
    return Record(
        str(message.topic()), int(message.partition() or 0), int(message.offset() or 0), message.timestamp()[1], key, value, headers
    )


async def _rows(connection: AsyncConnection[Any], statement: str) -> list[tuple[Any, ...]]:
    return await (await connection.execute(statements("audit")[statement])).fetchall()
