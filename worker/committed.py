"""Messages in: committed ones only, of every partition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, TopicPartition

from worker.bus import BusError, partitions_of
from worker.kafka_config import librdkafka_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from confluent_kafka import Message

    from worker.settings import KafkaSettings

_POLL_SECONDS: Final = 0.5
_TOGETHER: Final = 500
_READER: Final[Mapping[str, Any]] = {
    "group.id": "sre-domain-reader",  # required, and never joined: partitions are assigned by hand and no offset is stored
    "enable.auto.commit": False,
    "isolation.level": "read_committed",
    "enable.partition.eof": True,
    "fetch.wait.max.ms": 50,  # how long a broker may hold back the answer that there is nothing new
}


def read_committed(
    settings: KafkaSettings, topics: Sequence[str], *, from_beginning: bool, stopped: Callable[[], bool] | None = None
) -> Iterator[Message]:
    """Messages of all partitions of the topics, from their beginning or their end, up to the end as it is now or until `stopped`.

    Order holds within a partition. Raises BusError where Kafka is away at the start or a topic does not exist.
    """
    consumer, partitions = committed_consumer(settings, topics, where_lost="earliest")
    try:
        start = OFFSET_BEGINNING if from_beginning else OFFSET_END
        consumer.assign([TopicPartition(topic, partition, start) for topic, partition in partitions])
        unread = set(partitions)
        while unread if stopped is None else not stopped():
            messages, ended = poll_together(consumer)
            unread -= ended
            yield from messages
    finally:
        consumer.close()


def committed_consumer(settings: KafkaSettings, topics: Sequence[str], where_lost: str) -> tuple[Consumer, list[tuple[str, int]]]:
    """A consumer that is nobody's group member, and every partition of the topics.

    `where_lost` is what it does at an offset that is not there: earliest or error. Raises BusError.
    """
    heard: list[KafkaError] = []
    consumer = Consumer({**librdkafka_config(settings), **_READER, "auto.offset.reset": where_lost, "error_cb": heard.append})
    try:
        return consumer, partitions_of(consumer, topics, heard)
    except BusError:
        consumer.close()
        raise


def poll_together(consumer: Consumer) -> tuple[list[Message], set[tuple[str, int]]]:
    """Messages that are there together, waiting half a second for the first, and the partitions that end here. Raises BusError."""
    messages: list[Message] = []
    ended = set()
    message = consumer.poll(_POLL_SECONDS)
    while message is not None:
        error = message.error()
        if error is None:
            messages.append(message)
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            ended.add((str(message.topic()), int(message.partition() or 0)))
        elif not error.retriable() and error.code() != KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001
            raise BusError(error.str())
        message = consumer.poll(0) if len(messages) < _TOGETHER else None
    return messages, ended
