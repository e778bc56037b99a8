"""The outbox served by a real Debezium with the files of examples/debezium: record by record as by the relay, and in turns with it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast
from uuid import UUID, uuid4

import psycopg
import pytest
from confluent_kafka import Producer
from pydantic import SecretStr

from bench.cases import DEFINITION, MIDNIGHT, NOW, WINDOW, Ask, cases
from bench.per_intent import CODEC, Bench
from tests.integration.relay.harness import (
    current_lsn,
    facts_of,
    insert_facts,
    read_topic,
    relay_in_thread,
    run_for,
    settings_for,
    slot_position,
    wait_for_facts,
    wait_until,
)
from tests.support.hostile import hostile_records, to_record
from tests.support.kafka import empty_topics, require_java_and_maven
from tests.support.kafka_connect import KafkaConnect, connector, start_connect
from tests.support.roles import as_relay, as_writer
from worker.app import build_intake
from worker.devstack.processes import kill
from worker.domain.aggregate import AGGREGATES
from worker.domain.fields import format_rfc3339
from worker.domain.ids import uid
from worker.emission import Emitter
from worker.evidence import outgoing_topics
from worker.postgres import outbox
from worker.postgres.outbox import OutboxRow
from worker.recovery import process_reliably
from worker.relay.hand_over import hand_over
from worker.relay.rebuild import rebuild
from worker.relay.slot import OutboxNotEmptyError, ensure_slot
from worker.settings import Settings
from worker.topics import PARTITIONS, REJECTED_TOPIC, facts_topic, topic_specs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from confluent_kafka import Message

    from tests.integration.relay.harness import Fact

pytestmark = pytest.mark.timeout(240)

CONNECTOR: Final = "sre-outbox"
EVERY_FACT: Final = {name for aggregate in AGGREGATES.values() for name in aggregate.facts}


class Connect:
    """One Kafka Connect for all tests here, and another, without its offsets, where a test has killed it."""

    def __init__(self, kafka: str, database: str, directory: Path) -> None:
        self._kafka, self._database, self._directory = kafka, database, directory
        self.running: KafkaConnect | None = None

    def get(self) -> KafkaConnect:
        if self.running is None or self.running.process.poll() is not None:
            self.running = start_connect(self._kafka, self._database, self._directory / uuid4().hex)
        return self.running


@pytest.fixture(scope="module")
def only_connect(kafka: str, server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connect]:  # noqa: ARG001 - its logins
    require_java_and_maven()
    one = Connect(kafka, as_relay(server), tmp_path_factory.mktemp("connect"))
    yield one
    if one.running is not None:
        kill(one.running.process)


@pytest.fixture
def connect(only_connect: Connect) -> Iterator[KafkaConnect]:
    running = only_connect.get()
    yield running
    if running.process.poll() is None:
        for name in running.request("GET", "/connectors"):
            running.delete(name)


class Sent(NamedTuple):
    """A record as any reader sees it."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def test_debezium_publishes_what_the_relay_publishes(kafka: str, topics: tuple[str, ...], database: str, connect: KafkaConnect) -> None:  # noqa: ARG001
    settings, slot = settings_for(kafka, database), f"debezium_{uuid4().hex}"
    for name in (settings.relay_slot, slot):
        ensure_slot(settings.relay_dsn, name)
    asyncio.run(decide_everything(database))
    asyncio.run(save_odd_rows(database))
    rows, names = written(database)
    assert names == {f"sre.core.v1.{name}" for name in (*EVERY_FACT, "IntentRejected")}

    began = time.time()
    connect.start(CONNECTOR, connector(database, slot, **{"heartbeat.interval.ms": "500"}))
    wait_until(lambda: len(sent(kafka)) >= rows, f"Debezium publishes {rows} records")
    by_debezium, times = in_order(sent(kafka)), [message.timestamp() for message in sent(kafka)]
    assert {kind for kind, _ in times} == {1}  # CreateTime: when it was published
    assert all(began - 60 < stamp / 1000 < time.time() + 60 for _, stamp in times)
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE of_somebody_else AS SELECT generate_series(1, 1000)")
        connection.commit()
        end = current_lsn(connection)
    wait_until(lambda: (slot_position(database, slot) or (0, False))[0] >= end, "the slot goes on although the outbox doesn't")
    connect.delete(CONNECTOR)

    empty_topics(kafka, topic_specs(tuple(AGGREGATES)))
    with relay_in_thread(settings):
        wait_until(lambda: len(sent(kafka)) >= rows, f"the relay publishes {rows} records")
        by_relay = in_order(sent(kafka))
    assert sum(map(len, by_relay.values())) == rows
    assert by_debezium.keys() == by_relay.keys()
    for place, records in by_relay.items():
        assert by_debezium[place] == records


def test_relay_and_debezium_take_turns_and_nothing_is_lost_or_repeated(
    kafka: str,
    topics: tuple[str, ...],  # noqa: ARG001 - there, and empty
    database: str,
    connect: KafkaConnect,
) -> None:
    settings, slot = settings_for(kafka, database), f"debezium_{uuid4().hex}"
    ensure_slot(settings.relay_dsn, settings.relay_slot)
    with facts_without_end(database) as committed:
        with relay_in_thread(settings):
            wait_for_more(kafka)

        hand_over(settings, slot)
        with pytest.raises(OutboxNotEmptyError):  # and publishes nothing beside Debezium
            run_for(settings, 20)
        connect.start(CONNECTOR, connector(database, slot))
        wait_for_more(kafka)
        connect.delete(CONNECTOR)

        take_over(settings, slot)
        with relay_in_thread(settings):
            wait_for_more(kafka)

        hand_over(settings, slot)
        connect.start(CONNECTOR, connector(database, slot))
        wait_for_more(kafka)
        kill(connect.process)
        # What kafka-transactions.sh forceTerminateTransaction does.
        Producer({"bootstrap.servers": kafka, "transactional.id": f"{connect.group}-{CONNECTOR}-0"}).init_transactions(20)

        take_over(settings, slot)
        with relay_in_thread(settings):
            wait_for_more(kafka)
    with relay_in_thread(settings):
        wait_for_facts(kafka, committed)


def take_over(settings: Settings, slot: str) -> None:
    """As docs/debezium.md has it, once the connector is stopped."""
    wait_until(lambda: drop_slot(settings, slot), "Debezium's slot is dropped")
    rebuild(settings, lambda *_: None, dry_run=False)


def drop_slot(settings: Settings, slot: str) -> bool:
    with psycopg.connect(settings.relay_dsn) as connection:
        try:
            connection.execute("SELECT pg_drop_replication_slot(%s)", [slot])
        except psycopg.errors.ObjectInUse:
            return False
    return True


@contextmanager
def facts_without_end(database: str) -> Iterator[list[Fact]]:
    """Transactions of a few facts each, one after the other; the list grows with what is committed."""
    committed: list[Fact] = []
    over = threading.Event()

    def write() -> None:
        with psycopg.connect(database) as connection:
            version = 0
            while not over.is_set():
                version += 1
                facts = facts_of(["checkout", "search", "login"], [version])
                insert_facts(connection, facts)
                connection.commit()
                committed.extend(facts)
                over.wait(0.01)

    writer = threading.Thread(target=write, name="writer")
    writer.start()
    try:
        yield committed
    finally:
        over.set()
        writer.join()


def wait_for_more(kafka: str) -> None:
    """Until a reader has seen some more facts than are there now."""
    there = len(read_topic(kafka))
    wait_until(lambda: len(read_topic(kafka)) > there + 100, "more facts come")


async def decide_everything(database: str) -> None:
    """Intents of every kind through the pipeline, so that there are facts of every kind, and records that are refused."""
    settings = Settings(kafka_bootstrap_servers="none", database_url=SecretStr(as_writer(database)))
    emitter = Emitter(CODEC, {REJECTED_TOPIC: PARTITIONS, **{facts_topic(name): PARTITIONS for name in AGGREGATES}})
    intakes = {name: build_intake(settings, aggregate, emitter) for name, aggregate in AGGREGATES.items()}
    bench = Bench({name: replace(intake, now=lambda: NOW + timedelta(minutes=4)) for name, intake in intakes.items()}, {})
    for case in cases(8, "debezium"):
        await bench.seconds(case.before, NOW)
        await bench.seconds(case.asks, NOW + timedelta(minutes=3))
    midnight = {"start": format_rfc3339(MIDNIGHT)}
    recovered = [
        Ask("CreateSLO", "recovered", DEFINITION),
        Ask("RecordSLIWindow", "recovered", WINDOW | midnight | {"good": 0}),
        Ask("RecordSLIWindow", "recovered", WINDOW | midnight | {"good": 100, "revision": 1}),
    ]
    await bench.seconds(recovered, NOW)
    refused = [to_record(hostile, offset) for offset, hostile in enumerate(hostile_records(NOW).values(), 1_000)]
    await process_reliably(refused, bench.intakes["runbook"])


async def save_odd_rows(database: str) -> None:
    """What the worker could write and hardly does: each optional column there and not, keys and values of any bytes, the largest row."""
    row = OutboxRow(
        id=uid("odd"),
        aggregatetype="slo",
        aggregateid="odd",
        type="sre.core.v1.SLOCreated",
        payload=b"\xc3\x01",
        topic=facts_topic("slo"),
        key=b"acme/odd/1",
        partition=0,
        tenant_id="acme",
        aggregate_version=1,
        ce_time="2026-03-02T12:00:00.000000Z",
        subject="odd",
        correlation_id="c",
        causation_id="i",
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        tracestate="rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
        principal="ann",
    )
    changes: list[dict[str, Any]] = [
        {},
        *({name: None} for name in ("subject", "correlation_id", "causation_id", "traceparent", "tracestate", "principal")),
        *({name: value} for name in ("subject", "tracestate", "principal") for value in ("", " ", "null", "1.0", '"q"', "{}", "é😀\x01")),
        {"key": None},
        {"key": b""},
        {"key": bytes(range(256))},
        {"tenant_id": ""},
        {"aggregate_version": None},
        {"aggregate_version": 2**63 - 1},
        {"payload": b""},
        {"payload": b" "},
        {"payload": bytes(range(256))},
        {"payload": b"x" * 2_000_000, "topic": REJECTED_TOPIC},
    ]
    rows = [row._replace(id=UUID(int=number), **change) for number, change in enumerate(changes)]
    async with await psycopg.AsyncConnection.connect(database) as connection:
        await outbox.insert(connection, rows)


def written(database: str) -> tuple[int, set[str]]:
    """Rows of the outbox, and the types that they have."""
    with psycopg.connect(database) as connection:
        types = [kind for (kind,) in connection.execute("SELECT type FROM outbox")]
    return len(types), set(types)


def sent(kafka: str) -> list[Message]:
    return [message for topic in outgoing_topics() for message in read_topic(kafka, topic)]


def in_order(messages: list[Message]) -> dict[tuple[str | None, int | None], list[Sent]]:
    """By topic and partition, in the order of the offsets."""
    found = defaultdict(list)
    for message in messages:
        headers = cast("list[tuple[str, bytes | None]]", message.headers())
        found[message.topic(), message.partition()].append(Sent(message.key(), message.value(), headers))
    return found
