"""Whatever a producer may do that the broker accepts: every compression, and header names that are no UTF-8."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.producer import message_accumulator
from aiokafka.producer import producer as producer_module
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from confluent_kafka import Producer

from tests.support.records import CODEC, create
from tests.support.system import System, running_system
from worker.client import Intent, Outgoing, to_outgoing
from worker.domain.aggregate import intent_name
from worker.domain.slo import RecordSLIWindow
from worker.kafka_config import librdkafka_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from worker.domain.slo import Command

NOW = datetime.now(UTC)
COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")


class NotUtf8(str):
    """Encodes to bytes that no UTF-8 decoder takes."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return b"\xff\xfe"


def ask(command: Command) -> Outgoing:
    return to_outgoing(Intent(intent_name(type(command)), "acme", "checkout", command, "/tests", time=NOW), CODEC)


def window(minute: int) -> Outgoing:
    start = NOW.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1) + timedelta(minutes=minute)
    return ask(RecordSLIWindow(start=start, width_seconds=60, good=100, total=100))


@pytest.fixture
def system(kafka: str, database: str, topics: tuple[str, ...], tmp_path: Path) -> Iterator[System]:  # noqa: ARG001 - made, then used by name
    with running_system(kafka, database, tmp_path) as running:
        running.start("worker")
        yield running


def test_every_compression_is_read(system: System) -> None:
    system.publish([ask(create())])
    for number, compression in enumerate(COMPRESSIONS):
        own = {"compression.type": compression, "linger.ms": 200, "partitioner": "murmur2_random"}
        producer = Producer(librdkafka_config(system.settings) | own)
        for minute in range(number * 20, number * 20 + 20):  # enough of a kind for a compressed batch to be the smaller one
            record = window(minute)
            producer.produce(record.topic, record.value, record.key, headers=list(record.headers))
        assert producer.flush(30) == 0
        system.wait_for_outcomes(1 + (number + 1) * 20, seconds=60, where="outcome = 'facts'")


def test_a_header_name_that_is_not_utf8_stops_nothing(system: System, kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (message_accumulator, producer_module):
        monkeypatch.setattr(module, "DefaultRecordBatchBuilder", _DefaultRecordBatchBuilderPy)

    async def publish() -> None:
        async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
            for record in (ask(create()), window(0)):
                headers = [*record.headers, (NotUtf8("x"), b"y")]
                await producer.send_and_wait(record.topic, record.value, record.key, partition=0, headers=headers)

    asyncio.run(publish())
    system.wait_for_outcomes(2, seconds=60, where="outcome = 'facts'")
