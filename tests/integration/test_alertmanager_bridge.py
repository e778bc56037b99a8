"""The bridge as a process, with a real Apache Kafka behind it or none: what it answers, and what lies in the topic afterwards."""

from __future__ import annotations

import gzip
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.support.kafka import empty_topics
from tests.support.system import wait_until
from tests.support.webhook import LABELS, LEFT_OUT, ROOT, TOKEN, firing, healthy, many, running_bridge, send, webhook
from worker.client import read_committed
from worker.codec import load_codec
from worker.devstack.processes import LOOPBACK, free_port
from worker.domain.fields import format_rfc3339
from worker.evidence import to_record
from worker.integrations.alertmanager_bridge import MAX_BODY_BYTES
from worker.settings import KafkaSettings
from worker.topics import topic_specs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from worker.envelope import Record

TOPIC = "sre.alert.intents.v1"


@pytest.fixture
def bus(kafka: str) -> str:
    """Bootstrap servers of a Kafka whose topics of alerts are empty."""
    empty_topics(kafka, topic_specs(("alert",)))
    return kafka


@pytest.fixture
def bridge(bus: str, tmp_path: Path) -> Iterator[str]:
    with running_bridge(bus, tmp_path / "bridge.log") as (url, _):
        yield url


def sent(bus: str) -> list[Record]:
    return [to_record(message) for message in read_committed(KafkaSettings(kafka_bootstrap_servers=bus), [TOPIC], from_beginning=True)]


def headers_of(record: Record) -> dict[str, str]:
    return {name: (value or b"").decode() for name, value in record.headers}


def ids(bus: str) -> list[str]:
    return [headers_of(record)["ce_id"] for record in sent(bus)]


def connected(url: str) -> socket.socket:
    return socket.create_connection((LOOPBACK, int(url.rpartition(":")[2])), timeout=30)


def head_of(body: bytes, encoding: str = "identity") -> bytes:
    headers = ("Host: bridge", f"Authorization: Bearer {TOKEN}", f"Content-Encoding: {encoding}", f"Content-Length: {len(body)}")
    return "".join(f"{line}\r\n" for line in ("POST / HTTP/1.1", *headers, "")).encode()


def now() -> datetime:
    return datetime.now(UTC)


def test_a_notification_is_in_kafka_when_it_is_answered(bridge: str, bus: str) -> None:
    began = now() + timedelta(minutes=1)  # after the period in which it comes began
    assert send(bridge, webhook(firing(began))) == (200, {"accepted": 1, "truncated": 0})
    (record,) = sent(bus)
    headers = headers_of(record)
    assert (headers["ce_type"], headers["ce_tenantid"], headers["ce_source"]) == (
        "sre.core.v1.IngestAlertRequested",
        "acme",
        "/integrations/alertmanager",
    )
    assert headers["ce_time"] == format_rfc3339(began)
    fields = load_codec().decode("IngestAlertRequested", record.value or b"")
    assert (fields["name"], fields["labels"]) == ("HighErrorRate", LABELS)


def test_a_repeated_notification_has_the_same_ids_also_from_another_bridge(bridge: str, bus: str, tmp_path: Path) -> None:
    body = webhook(*many(3))
    for _ in range(2):
        assert send(bridge, body)[0] == 200
    with running_bridge(bus, tmp_path / "other.log") as (other, _):
        assert send(other, body)[0] == 200
    assert sorted(Counter(ids(bus)).values()) == [3, 3, 3]


def test_a_thousand_alerts_pass(bridge: str, bus: str) -> None:
    assert send(bridge, webhook(*many(1000))) == (200, {"accepted": 1000, "truncated": 0})
    assert len(set(ids(bus))) == 1000


@pytest.mark.parametrize("token", [None, "", "wrong", f"{TOKEN}s", "\u00fc"])
def test_a_wrong_token_is_refused_before_anything_else(bridge: str, bus: str, token: str | None) -> None:
    assert send(bridge, b"{", token) == (401, {"error": "the bearer token is missing or wrong"})
    assert sent(bus) == []


def test_what_no_intent_can_say_is_refused_whole(bridge: str, bus: str) -> None:
    nameless = firing(now(), labels={}, fingerprint="")
    status, answer = send(bridge, webhook(firing(now()), nameless))
    assert (status, answer["error"].partition(":")[0]) == (400, "alerts[1]")
    assert send(bridge, webhook(firing(now()))[:-9])[0] == 400
    assert send(bridge, webhook(firing(now()), version="3"))[0] == 400
    assert sent(bus) == []


@pytest.mark.parametrize("compressed", [False, True])
def test_a_body_of_10_mb_is_refused(bridge: str, bus: str, compressed: bool) -> None:  # noqa: FBT001 - a case
    body = webhook(*(firing(now(), annotations={"log": "x" * 10_000}) for _ in range(1000)))
    assert len(body) > 10_000_000 > MAX_BODY_BYTES
    with connected(bridge) as connection:
        payload = gzip.compress(body) if compressed else body
        connection.sendall(head_of(payload, "gzip" if compressed else "identity") + payload)
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"8388608 bytes: set max_alerts" in answer
    assert sent(bus) == []


def test_what_the_worker_will_refuse_is_sent_with_its_neighbours(bridge: str, bus: str) -> None:
    broken = [
        firing(now(), fingerprint="0000000000000000"),
        firing(now(), status=LEFT_OUT),
        firing(now(), startsAt=LEFT_OUT),
        firing(now(), annotations={"log": "x" * 300_000}),
    ]
    assert send(bridge, webhook(*broken, *many(2))) == (200, {"accepted": 6, "truncated": 0})
    assert len(set(ids(bus))) == 6


def test_alerts_that_alertmanager_left_out_are_told(bridge: str, tmp_path: Path) -> None:
    assert send(bridge, webhook(*many(2), truncatedAlerts=40, groupKey='{}:{team="pay"}\n')) == (200, {"accepted": 2, "truncated": 40})
    (line,) = [line for line in (tmp_path / "bridge.log").read_text().splitlines() if "WARNING" in line]
    assert line.endswith("""Alertmanager left 40 alerts of the group '{}:{team="pay"}\\n' out of its notification""")


def test_without_kafka_it_says_503_also_to_what_is_under_way_on_sigterm_and_the_retry_loses_nothing(bus: str, tmp_path: Path) -> None:
    body, log = webhook(*many(20)), tmp_path / "bridge.log"
    with running_bridge(f"{LOOPBACK}:{free_port()}", log) as (url, process), connected(url) as connection:
        connection.sendall(head_of(body) + body)
        assert healthy(url)  # asked later, so the body was read before
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: not healthy(url), 10, lambda: "it still takes requests")
        connection.settimeout(60)
        answer = connection.recv(4096)
        assert process.wait(60) == 0
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"was not delivered to sre.alert.intents.v1" in answer
    with running_bridge(bus, log) as (url, _):
        assert send(url, body)[0] == 200
    assert len(set(ids(bus))) == 20


@pytest.mark.parametrize(
    ("options", "environment", "complaint"),
    [
        (["--tenant", "a/b"], {}, "Invalid value for --tenant"),
        (["--tenant", "acme", "--listen", "9099"], {}, "Invalid value for --listen"),
        (["--tenant", "acme", "--listen", "localhost:99999"], {}, "Invalid value for --listen"),
        (["--tenant", "acme"], {"SRE_BRIDGE_TOKEN": ""}, "SRE_BRIDGE_TOKEN"),
        (["--tenant", "acme", "--listen", "192.0.2.1:9099"], {}, "cannot listen at 192.0.2.1:9099"),
    ],
)
def test_what_it_cannot_start_with_is_named(options: list[str], environment: dict[str, str], complaint: str) -> None:
    command = [sys.executable, "-m", "worker", "bridge", "alertmanager", *options]
    settings = {"SRE_KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{free_port()}", "SRE_BRIDGE_TOKEN": TOKEN, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env={**os.environ, **settings, **environment}, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
