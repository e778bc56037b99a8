"""What somebody may try at a broker, and whether the broker lets them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from worker.kafka_config import librdkafka_config

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from worker.settings import KafkaSettings

SECONDS = 30
_REFUSALS = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
)


class Intruder:
    """One principal's clients. Each attempt gives None where the broker allows it, or raises KafkaException with its answer."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._config = librdkafka_config(settings)
        self._admin = AdminClient(dict(self._config))
        self._producer = Producer({**self._config, "linger.ms": 0})
        reading: dict[str, Any] = {"group.id": f"nobody-{uuid4()}", "enable.partition.eof": True, "auto.offset.reset": "earliest"}
        self._consumer = Consumer({**self._config, **reading, "enable.auto.commit": False})

    def close(self) -> None:
        self._consumer.close()

    def write(self, topic: str) -> None:
        answers: list[KafkaError | None] = []
        self._producer.produce(topic, b"by an intruder", b"intruder", partition=0, on_delivery=lambda error, _: answers.append(error))
        assert self._producer.flush(SECONDS) == 0
        if answers[0] is not None:
            raise KafkaException(answers[0])

    def read(self, topic: str) -> None:
        self._find(topic)
        self._consumer.assign([TopicPartition(topic, 0, 0)])
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            message = self._consumer.poll(1)
            error = None if message is None else message.error()
            if message is None or (error is not None and error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED):
                continue  # of the consumer's own group, which an assignment by hand does not need
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            return
        raise AssertionError(f"no answer about {topic}")

    def _find(self, topic: str) -> None:
        """Who may not know of a topic can't ask anything of its partitions."""
        error = self._consumer.list_topics(topic, SECONDS).topics[topic].error
        if error is not None:
            raise KafkaException(error)

    def create(self, topic: str) -> None:
        self._admin.create_topics([NewTopic(topic, 1)])[topic].result(SECONDS)

    def delete(self, topic: str) -> None:
        self._admin.delete_topics([topic])[topic].result(SECONDS)

    def shorten_retention(self, topic: str) -> None:
        entry = ConfigEntry("retention.ms", "1", incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        self._admin.incremental_alter_configs([resource])[resource].result(SECONDS)

    def delete_records(self, topic: str) -> None:
        self._find(topic)
        place = TopicPartition(topic, 0, -1)
        self._admin.delete_records([place])[place].result(SECONDS)

    def move_group(self, group: str, topic: str) -> None:
        """Commit an offset for others, who would go on from there."""
        moved = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 0)])
        (future,) = self._admin.alter_consumer_group_offsets([moved]).values()
        (place,) = future.result(SECONDS).topic_partitions
        if place.error is not None:
            raise KafkaException(place.error)

    def see_lag(self, group: str, topic: str) -> None:
        """Ask where the group is and where the topic ends, as an autoscaler does."""
        asked = TopicPartition(topic, 0)
        (future,) = self._admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [asked])]).values()
        (place,) = future.result(SECONDS).topic_partitions
        if place.error is not None:
            raise KafkaException(place.error)
        self._consumer.get_watermark_offsets(asked, SECONDS)

    def take_over(self, transactional_id: str) -> None:
        """Fence whoever uses this transactional id."""
        Producer({**self._config, "transactional.id": transactional_id}).init_transactions(SECONDS)

    def grant_itself(self, principal: str, topic: str) -> None:
        binding = AclBinding(
            ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, f"User:{principal}", "*", AclOperation.ALL, AclPermissionType.ALLOW
        )
        self._admin.create_acls([binding])[binding].result(SECONDS)


def allowed(attempts: Mapping[str, Callable[[], None]]) -> set[str]:
    """The names of those that the broker let happen; every other was answered with a refusal, and not with something else."""
    done = set()
    for name, attempt in attempts.items():
        try:
            attempt()
        except KafkaException as error:
            assert error.args[0].code() in _REFUSALS, f"{name}: {error.args[0]}"  # noqa: PT017 - which of the two it is
        else:
            done.add(name)
    return done
