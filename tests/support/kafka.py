"""Apache Kafka in a container, and emptying the topics of the bus between tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, ConfigEntry, ConfigResource, ConfigSource, OffsetSpec, ResourceType

from worker.devstack import apache_kafka
from worker.devstack.apache_kafka import MissingToolError
from worker.kafka_config import librdkafka_config
from worker.settings import Settings
from worker.topic_admin import make_topics
from worker.topics import PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from worker.topics import TopicSpec


_LATEST: Final = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_OF_TOPIC: Final[object] = ConfigSource.DYNAMIC_TOPIC_CONFIG.value


def require_java_and_maven() -> None:
    """For tests of a broker on the JVM: skips where its tools are missing, and fails there where CI is set."""
    try:
        apache_kafka._java()
        apache_kafka._jars()
    except MissingToolError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "version"], capture_output=True, timeout=20, check=False).returncode == 0


@contextmanager
def container_kafka() -> Iterator[str]:
    """Bootstrap servers of a Kafka container."""
    from testcontainers.kafka import KafkaContainer  # noqa: PLC0415  a second to import

    container = KafkaContainer().with_kraft()
    container.with_env("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false").with_env("KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS", "500")
    container.with_env("KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "1").with_env("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR", "1")
    with container:
        yield container.get_bootstrap_server()


def empty_topics(bootstrap_servers: str, specs: Sequence[TopicSpec]) -> None:
    """All of them there, as they must be and without a record. One that nobody wrote to stays: to make all anew takes as long as a test."""
    settings = Settings(kafka_bootstrap_servers=bootstrap_servers, database_url="postgresql://")
    admin = AdminClient(librdkafka_config(settings))
    delete_topics(admin, _used(admin, specs))
    make_topics(settings, specs)


def delete_topics(admin: AdminClient, names: Collection[str]) -> None:
    """Until nobody is told of them any more."""
    for future in admin.delete_topics(list(names)).values() if names else ():
        future.result()
    deadline = time.monotonic() + 15
    while set(names) & set(admin.list_topics(timeout=15).topics):
        assert time.monotonic() < deadline, "deleted topics are still listed"
        time.sleep(0.02)


def _used(admin: AdminClient, specs: Sequence[TopicSpec]) -> list[str]:
    """Topics that hold or held a record, or may, or are not as they are made."""
    there = admin.list_topics(timeout=15).topics
    known = {spec.name: spec for spec in specs if spec.name in there}
    if not known:
        return []
    places = {TopicPartition(name, number): _LATEST for name in known for number in there[name].partitions}
    ends = admin.list_offsets(places, request_timeout=15)
    written = {place.topic for place, future in ends.items() if future.exception() is not None or future.result().offset > 0}
    described = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name) for name in known], request_timeout=15)
    configs = {resource.name: future.result() for resource, future in described.items()}
    return [
        name
        for name, spec in known.items()
        if name in written or len(there[name].partitions) != (spec.partitions or PARTITIONS) or _own(configs[name]) != dict(spec.config)
    ]


def _own(config: Mapping[str, ConfigEntry]) -> dict[str, str | None]:
    """What was set for this topic and is not the broker's."""
    return {name: entry.value for name, entry in config.items() if entry.source == _OF_TOPIC}
