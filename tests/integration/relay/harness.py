"""Rows as the worker writes them, a relay in a thread or a process, and what a reader of Kafka then sees."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from uuid import uuid4

import psutil
import psycopg
from confluent_kafka import Consumer, KafkaError, TopicPartition
from pydantic import SecretStr

from tests.support.roles import as_relay
from worker.domain.ids import uid
from worker.partitioner import partition_of
from worker.relay.relay import run
from worker.settings import Settings
from worker.topics import PARTITIONS, facts_topic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from confluent_kafka import Message

TENANT = "acme"
FACTS = facts_topic("slo")
TIME = "2026-03-02T12:00:00.000000Z"
INSERT_FACTS = """
    INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, topic, key, partition, tenant_id,
                        aggregate_version, ce_time, subject, correlation_id, causation_id)
    SELECT id, 'slo', aggregate, 'sre.core.v1.SLIWindowRecorded', decode(repeat('c301', 100), 'hex'), %s,
           convert_to('acme/' || aggregate || '/' || version, 'UTF8'), partition, 'acme', version, %s, aggregate, 'c', 'i'
    FROM unnest(%s::uuid[], %s::text[], %s::bigint[], %s::int[]) WITH ORDINALITY AS row (id, aggregate, version, partition, place)
    ORDER BY place
"""


class Fact(NamedTuple):
    aggregate: str
    version: int

    @property
    def ce_id(self) -> str:
        return str(uid("fact", TENANT, "slo", self.aggregate, str(self.version)))

    @property
    def partition(self) -> int:
        return partition_of(f"{TENANT}/{self.aggregate}".encode(), PARTITIONS)


def settings_for(kafka: str, database: str, **changes: Any) -> Settings:  # noqa: ANN401 - any setting
    """For a relay under its own role; `writer_dsn` is the superuser's, who writes what is to be published."""
    urls = {"database_url": SecretStr(database), "relay_database_url": SecretStr(as_relay(database))}
    given = {"kafka_bootstrap_servers": kafka, **urls, "relay_slot": f"slot_{uuid4().hex}", **changes}
    return Settings(**given)


def facts_of(aggregates: Iterable[str], versions: Iterable[int]) -> list[Fact]:
    """Every version of every aggregate, version by version."""
    names = list(aggregates)
    return [Fact(name, version) for version in versions for name in names]


def insert_facts(connection: psycopg.Connection[Any], facts: Sequence[Fact]) -> None:
    ids, partitions = [fact.ce_id for fact in facts], [fact.partition for fact in facts]
    aggregates, versions = [fact.aggregate for fact in facts], [fact.version for fact in facts]
    connection.execute(INSERT_FACTS, [FACTS, TIME, ids, aggregates, versions, partitions])


def wait_until(holds: Callable[[], bool], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


# Kafka


def read_topic(kafka: str, topic: str = FACTS, *, committed: bool = True) -> list[Message]:
    """All that a reader finds who starts now, by partition and offset; `committed` False shows what was aborted, too."""
    isolation = "read_committed" if committed else "read_uncommitted"
    config = {"bootstrap.servers": kafka, "group.id": f"reader-{uuid4().hex}", "isolation.level": isolation}
    consumer = Consumer(config | {"enable.partition.eof": True, "auto.offset.reset": "earliest", "fetch.wait.max.ms": 10})
    try:
        partitions = consumer.list_topics(topic, timeout=20).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        found: list[Message] = []
        left = set(partitions)
        while left:
            for message in consumer.consume(1_000, timeout=0.05):
                error = message.error()
                if error is None:
                    found.append(message)
                else:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    left.discard(message.partition() or 0)
    finally:
        consumer.close()
    return sorted(found, key=lambda message: (message.partition() or 0, message.offset() or 0))


def headers_of(message: Message) -> dict[str, str]:
    headers = cast("list[tuple[str, bytes]]", message.headers())
    assert len({name for name, _value in headers}) == len(headers), "a header is repeated"
    return {name: value.decode() for name, value in headers}


def fact_in(message: Message) -> Fact:
    headers = headers_of(message)
    return Fact(headers["ce_aggregateid"], int(headers["ce_aggregateversion"]))


def read_facts(kafka: str) -> list[Fact]:
    """The facts that a read_committed reader finds now, in the order of each partition."""
    return [fact_in(message) for message in read_topic(kafka)]


def wait_for_facts(kafka: str, expected: Sequence[Fact], seconds: float = 60) -> None:
    """Wait for them, then hold that they are there once each, every aggregate in version order and in its partition, and nothing else."""
    deadline = time.monotonic() + seconds
    while len(messages := read_topic(kafka)) < len(expected):
        assert time.monotonic() < deadline, f"{len(messages)} of {len(expected)} facts within {seconds} s"
        time.sleep(0.05)
    assert sorted(headers_of(message)["ce_id"] for message in messages) == sorted(fact.ce_id for fact in expected)
    versions = defaultdict(list)
    for message in messages:
        fact = fact_in(message)
        assert message.partition() == fact.partition
        versions[fact.aggregate].append(fact.version)
    for aggregate, found in versions.items():
        assert found == sorted(fact.version for fact in expected if fact.aggregate == aggregate)


# PostgreSQL


def slot_position(database: str, slot: str) -> tuple[int, bool] | None:
    """Confirmed position, and whether a relay streams; None where there is no such slot."""
    with psycopg.connect(database) as connection:
        return connection.execute(
            "SELECT (confirmed_flush_lsn - '0/0')::bigint, active FROM pg_replication_slots WHERE slot_name = %s", [slot]
        ).fetchone()


def current_lsn(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT (pg_current_wal_lsn() - '0/0')::bigint").fetchone()
    assert row is not None
    return int(row[0])


def wait_until_streaming(settings: Settings) -> None:
    wait_until(lambda: (slot_position(settings.relay_dsn, settings.relay_slot) or (0, False))[1], "a relay streams from the slot")


def wait_until_confirmed(settings: Settings, lsn: int) -> None:
    wait_until(lambda: (slot_position(settings.relay_dsn, settings.relay_slot) or (0, False))[0] >= lsn, "the slot is confirmed")


# The relay


@contextmanager
def relay_in_thread(settings: Settings) -> Iterator[threading.Event]:
    """A relay that streams; setting the event stops it, as leaving does. What it raised is raised here."""
    stop = threading.Event()
    raised: list[BaseException] = []

    def target() -> None:
        try:
            run(settings, stop)
        except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
            raised.append(error)

    thread = threading.Thread(target=target, name="relay under test")
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(10)
        if raised:  # also where the test failed: this is why
            raise raised[0]
    assert not thread.is_alive()


def run_for(settings: Settings, seconds: float) -> None:
    """A relay in this thread that is stopped then, where it has not ended by itself; raises what it raises."""
    stop = threading.Event()
    timer = threading.Timer(seconds, stop.set)
    timer.start()
    try:
        run(settings, stop)
    finally:
        timer.cancel()


class RelayProcess:
    """`sre-domain relay`, logging to a file."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self.log = directory / f"relay-{uuid4().hex[:8]}.log"
        environment = {
            "SRE_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
            "SRE_DATABASE_URL": settings.relay_dsn,
            "SRE_RELAY_SLOT": settings.relay_slot,
            "SRE_RELAY_TRANSACTION_TIMEOUT_SECONDS": str(settings.relay_transaction_timeout_seconds),
            "PYTHONPATH": str(Path(__file__).parents[3]),
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "worker", "relay"], env={**os.environ, **environment}, stdout=log, stderr=log
            )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def stop(self, seconds: float = 10) -> int:
        """The exit status after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def resident_bytes(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()


@contextmanager
def relay_process(settings: Settings, directory: Path) -> Iterator[RelayProcess]:
    relay = RelayProcess(settings, directory)
    try:
        yield relay
    finally:
        sys.stdout.write(relay.log.read_text())  # pytest shows it where the test failed
        if relay.process.poll() is None:
            relay.kill()
