"""The bus as a client sees it: intents out, validated and confirmed; facts and rejections in, committed ones only."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, Producer, TopicPartition

from worker.domain.aggregate import AGGREGATES, Aggregate
from worker.domain.fields import format_rfc3339
from worker.domain.parsing import parse_command
from worker.domain.rejection import Rejection
from worker.envelope import CONTENT_TYPE, SPEC_VERSION, TYPE_PREFIX, malformed
from worker.errors import WorkerError
from worker.kafka_config import librdkafka_config
from worker.topics import intents_topic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from confluent_kafka import Message

    from worker.codec import Codec
    from worker.settings import KafkaSettings

_DELIVERY_TIMEOUT_SECONDS: Final = 30.0
_METADATA_TIMEOUT_SECONDS: Final = 10.0


class BusError(WorkerError):
    """Kafka did not answer in time, or refused what was asked of it."""


@dataclass(frozen=True, slots=True)
class Intent:
    """What is asked of one aggregate. The same `intent_id` with the same content, `time` included, is the same intent."""

    name: str
    tenant_id: str
    aggregate_id: str
    command: object
    source: str
    intent_id: str = field(default_factory=lambda: str(uuid4()))
    time: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record that is ready to be sent."""

    topic: str
    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes]]


def aggregate_of(intent_name: str) -> Aggregate | None:
    """The aggregate that takes intents of this name (`RecordSLIWindowRequested`)."""
    return next((aggregate for aggregate in AGGREGATES.values() if intent_name in aggregate.intents), None)


def intent_from_fields(name: str, tenant_id: str, aggregate_id: str, fields: dict[str, object], **rest: Any) -> Intent | Rejection:  # noqa: ANN401
    """An intent whose fields come from JSON; a rejection names the fields that are wrong. Raises KeyError for an unknown name."""
    aggregate = aggregate_of(name)
    if aggregate is None:
        raise KeyError(name)
    command = parse_command(aggregate, name, fields, aggregate_id)
    if isinstance(command, Rejection):
        return command
    intent = Intent(name, tenant_id, aggregate_id, command, **rest)
    return malformed(intent.tenant_id, intent.intent_id) or intent


def to_outgoing(intent: Intent, codec: Codec) -> Outgoing:
    """CloudEvents headers and Avro payload, as docs/contract.md has them. Raises KeyError for an unknown name."""
    aggregate = aggregate_of(intent.name)
    if aggregate is None:
        raise KeyError(intent.name)
    subject = intent.aggregate_id.encode()
    headers = (
        ("ce_specversion", SPEC_VERSION),
        ("ce_id", intent.intent_id.encode()),
        ("ce_source", intent.source.encode()),
        ("ce_type", f"{TYPE_PREFIX}{intent.name}".encode()),
        ("ce_time", format_rfc3339(intent.time).encode()),
        ("ce_subject", subject),
        ("ce_tenantid", intent.tenant_id.encode()),
        ("content-type", CONTENT_TYPE),
    )
    return Outgoing(intents_topic(aggregate.name), subject, codec.encode(intent.name, intent.command), headers)


def publish(settings: KafkaSettings, records: Iterable[Outgoing]) -> int:
    """Send the records in their order and wait until Kafka has acknowledged all.

    Raises BusError where one is not, and before anything is sent where Kafka is away or a topic does not exist.
    """
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failures.append(error)

    producer = Producer(
        librdkafka_config(settings)
        | {
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "linger.ms": 5,
            "delivery.timeout.ms": int(_DELIVERY_TIMEOUT_SECONDS * 1000),
        }
    )
    count = 0
    known: set[str] = set()
    for record in records:
        if record.topic not in known:
            _partitions(producer, [record.topic])
            known.add(record.topic)
        while True:
            try:
                producer.produce(record.topic, record.value, record.key, headers=list(record.headers), on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
        count += 1
        if failures:
            break
    left = producer.flush(_DELIVERY_TIMEOUT_SECONDS + 1)
    if failures or left:
        raise BusError(f"not all intents were delivered: {failures[0].str() if failures else f'{left} are still waiting'}")
    return count


def read_committed(
    settings: KafkaSettings, topics: Sequence[str], *, from_beginning: bool, stopped: Callable[[], bool] | None = None
) -> Iterator[Message]:
    """Messages of all partitions of the topics, from their beginning or their end, up to the end as it is now or until `stopped`.

    Order holds within a partition. Raises BusError where Kafka is away at the start or a topic does not exist.
    """
    config = {
        "group.id": "sre-domain-reader",  # required, and never joined: partitions are assigned by hand and no offset is stored
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
        "fetch.wait.max.ms": 50,  # how long a broker may hold back the answer that there is nothing new
    }
    consumer = Consumer(librdkafka_config(settings) | config)
    try:
        partitions = _partitions(consumer, topics)
        start = OFFSET_BEGINNING if from_beginning else OFFSET_END
        consumer.assign([TopicPartition(topic, partition, start) for topic, partition in partitions])
        unread = set(partitions)
        while unread if stopped is None else not stopped():
            message = consumer.poll(0.5)
            if message is None:
                continue
            error = message.error()
            if error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                unread.discard((message.topic(), message.partition()))
            elif not error.retriable() and error.code() != KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001
                raise BusError(error.str())
    finally:
        consumer.close()


def _partitions(client: Consumer | Producer, topics: Sequence[str]) -> list[tuple[str, int]]:
    try:
        found = client.list_topics(timeout=_METADATA_TIMEOUT_SECONDS).topics
    except KafkaException as error:
        raise BusError(f"Kafka does not answer: {error.args[0].str()}") from None
    missing = [topic for topic in topics if topic not in found]
    if missing:
        raise BusError(f"topic {missing[0]} does not exist: run `sre-domain topics`")
    return [(topic, partition) for topic in topics for partition in found[topic].partitions]
