"""Apache Kafka on the JVM."""

from __future__ import annotations

import os
import shutil
import signal
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.support.kafka import require_java_and_maven
from worker.devstack import apache_kafka
from worker.devstack.apache_kafka import MissingToolError, restart_kafka, running_kafka, start_kafka, stop_kafka
from worker.devstack.processes import DevStackError, is_free

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tools() -> None:
    require_java_and_maven()


@pytest.mark.usefixtures("tools")
def test_acknowledged_records_survive_kill_9_and_the_address_stays(tmp_path: Path) -> None:
    with running_kafka(tmp_path) as broker:
        quiet: dict[str, str | int | float | bool] = {"bootstrap.servers": broker.bootstrap_servers, "log_level": 0}
        admin = AdminClient(quiet)
        admin.create_topics([NewTopic("kept", 1)])["kept"].result()
        producer = Producer(quiet)
        producer.produce("kept", b"42")
        assert producer.flush(20) == 0
        os.kill(broker.pid, signal.SIGKILL)
        again = restart_kafka(broker)
    assert again.bootstrap_servers == broker.bootstrap_servers
    assert again.pid != broker.pid
    consumer = Consumer({**quiet, "group.id": "reader", "auto.offset.reset": "earliest"})
    consumer.subscribe(["kept"])
    (message,) = consumer.consume(1, timeout=30)
    consumer.close()
    assert message.value() == b"42"
    stop_kafka(again)
    assert again.process.returncode is not None
    assert is_free(again.port)
    assert is_free(again.controller_port)


def test_a_topic_is_not_made_by_asking_for_it(kafka: str) -> None:
    producer = Producer({"bootstrap.servers": kafka, "log_level": 0, "allow.auto.create.topics": True})
    assert "nobody.made.it" not in producer.list_topics(timeout=20).topics
    with pytest.raises(KafkaException) as refused:
        raise KafkaException(producer.list_topics("nobody.made.it", timeout=20).topics["nobody.made.it"].error)
    assert refused.value.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART


@pytest.mark.usefixtures("tools")
def test_a_broker_that_does_not_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "meta.properties").write_text("version=7\n")
    with pytest.raises(DevStackError, match=r"^Apache Kafka did not start: .* No readable meta.properties files found") as failure:
        start_kafka(tmp_path)
    assert "\n" not in str(failure.value)


def test_missing_java_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match=r"^Apache Kafka needs Java 17 or later: no `java` on the PATH$"):
        start_kafka(tmp_path)


def test_missing_maven_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match=r"no `mvn` on the PATH$"):
        apache_kafka._jars()


def test_maven_without_a_network_is_one_line_and_leaves_no_half_filled_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maven = tmp_path / "mvn"
    maven.write_text("#!/bin/sh\necho '[ERROR] Could not transfer artifact'\necho '[ERROR] Re-run Maven'\nexit 1\n")
    maven.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert shutil.which("mvn") == str(maven)
    with pytest.raises(DevStackError, match=r"^fetching Apache Kafka with Maven failed: \[ERROR\] Could not transfer artifact \(see "):
        apache_kafka._jars()
    assert [file.name for file in (tmp_path / "cache" / "sre-domain").iterdir()] == ["maven.log"]
