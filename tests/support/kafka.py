"""Apache Kafka in a container, and emptying the topics of the bus between tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from worker.devstack import apache_kafka
from worker.devstack.apache_kafka import MissingToolError
from worker.kafka_config import librdkafka_config
from worker.settings import Settings
from worker.topic_admin import make_topics

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.topics import TopicSpec


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
    """Delete the topics that exist and make all of them anew."""
    settings = Settings(kafka_bootstrap_servers=bootstrap_servers, database_url="postgresql://")
    admin = AdminClient(librdkafka_config(settings))
    names = {spec.name for spec in specs}
    for future in admin.delete_topics(sorted(names)).values():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
    deadline = time.monotonic() + 15
    while names & set(admin.list_topics(timeout=15).topics):
        assert time.monotonic() < deadline, "deleted topics are still listed"
        time.sleep(0.02)
    make_topics(settings, specs)
