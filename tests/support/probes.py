"""A service's answers to its probes, and what its consumer group says of it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException
from confluent_kafka.admin import AdminClient

from worker.devstack.processes import LOOPBACK, free_port

if TYPE_CHECKING:
    import pytest

    from worker.settings import Settings


class Answer(NamedTuple):
    """`status` is 0 where nothing listens."""

    status: int
    state: str = ""
    reasons: tuple[str, ...] = ()


def listen_somewhere(monkeypatch: pytest.MonkeyPatch) -> int:
    """Have the next service that is started answer its probes on this port."""
    port = free_port()
    monkeypatch.setitem(os.environ, "SRE_HEALTH_ADDRESS", f"{LOOPBACK}:{port}")
    return port


def ask(port: int, path: str) -> Answer:
    try:
        with urlopen(f"http://{LOOPBACK}:{port}{path}", timeout=5) as response:
            return _answer(response.status, response.read())
    except HTTPError as error:
        return _answer(error.code, error.read())
    except (URLError, OSError):
        return Answer(0)


def _answer(status: int, body: bytes) -> Answer:
    told: dict[str, Any] = json.loads(body)
    return Answer(status, told["state"], tuple(told["reasons"]))


def members(settings: Settings) -> list[int]:
    """How many partitions each member of the consumer group has; nobody while it rebalances."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    try:
        group = admin.describe_consumer_groups([settings.consumer_group], request_timeout=2)[settings.consumer_group].result()
    except KafkaException:  # the coordinator is only just there; librdkafka waits for it as long as it may
        return []
    return sorted(len(member.assignment.topic_partitions) for member in group.members) if group.state.name == "STABLE" else []


def committed(settings: Settings) -> dict[tuple[str, int], int]:
    """The group's offsets by topic and partition."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    asked = ConsumerGroupTopicPartitions(settings.consumer_group)
    found = admin.list_consumer_group_offsets([asked])[settings.consumer_group].result().topic_partitions
    return {(partition.topic, partition.partition): partition.offset for partition in found if partition.offset >= 0}
