"""What publishing and reading share: the error, and the partitions of a topic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaException

from worker.errors import WorkerError
from worker.kafka_metadata import list_topics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka import Consumer, KafkaError, Producer

_METADATA_TIMEOUT_SECONDS: Final = 10.0


class BusError(WorkerError):
    """Kafka did not answer in time, or refused what was asked of it."""


def partitions_of(client: Consumer | Producer, topics: Sequence[str], heard: Sequence[KafkaError] = ()) -> list[tuple[str, int]]:
    """Every partition of the topics. `heard` is what the client's error_cb appends to.

    Raises BusError where Kafka is away or refuses the login, or a topic does not exist.
    """
    try:
        found = list_topics(client, heard, _METADATA_TIMEOUT_SECONDS)
    except KafkaException as error:
        raise BusError(f"Kafka does not answer: {error.args[0].str()}") from None
    missing = [topic for topic in topics if topic not in found]
    if missing:
        raise BusError(f"topic {missing[0]} does not exist: run `sre-domain topics`")
    return [(topic, partition) for topic in topics for partition in found[topic].partitions]
