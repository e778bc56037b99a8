"""`sre-domain rejected list`, `show` and `replay` against a real topic of rejections."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer

from tests.support.letters import rejection_of
from tests.support.records import Topic, window
from worker.domain.fields import format_rfc3339
from worker.domain.rejection import RejectionCode
from worker.evidence import read_records
from worker.settings import KafkaSettings
from worker.topics import REJECTED_TOPIC

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.envelope import Header, Record

C = RejectionCode
INTENTS = "sre.slo.intents.v1"
START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


@dataclass
class Rejections:
    """Puts rejections into their topic, the n-th of them n minutes after START, and runs the commands."""

    settings: KafkaSettings
    transactional_id: str | None = None
    topic: Topic = field(default_factory=lambda: Topic(now=datetime.now(UTC)))
    count: int = 0

    def put(self, record: Record, code: RejectionCode, *, used_up: bool = False) -> Record:
        row, headers = rejection_of(record, code, used_up=used_up)
        self.put_raw(row.payload, headers, row.key, row.partition)
        return record

    def put_raw(self, value: bytes, headers: list[tuple[str, str | bytes | None]], key: bytes | None = b"k", partition: int = 0) -> None:
        producer = Producer({"bootstrap.servers": self.settings.kafka_bootstrap_servers})
        stamp = int((START + timedelta(minutes=self.count)).timestamp() * 1000)
        producer.produce(REJECTED_TOPIC, value, key, partition, timestamp=stamp, headers=headers)
        assert producer.flush(10) == 0
        self.count += 1

    def refuse(self, code: RejectionCode = C.INTERNAL_ERROR, tenant: str = "acme", *, used_up: bool = False, extra: object = ()) -> Record:
        """A rejection of a good record of its own, with these headers besides."""
        record = self.topic.append(window(self.count), tenant=tenant, intent_id=f"i-{self.count}")
        return self.put(record._replace(headers=[*record.headers, *extra]), code, used_up=used_up)  # type: ignore[misc]

    def run(self, *arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "worker", "rejected", *arguments],
            env={**os.environ, "SRE_KAFKA_BOOTSTRAP_SERVERS": self.settings.kafka_bootstrap_servers},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def listed(self, *arguments: str) -> list[Any]:
        """The intents' ids, in the order in which they are listed."""
        lines = self.run("list", "--json", *arguments).splitlines()
        return [json.loads(line)["causation_id"] for line in lines if line.startswith("{")]

    def intents(self) -> list[Record]:
        return read_records(self.settings, [INTENTS])


@pytest.fixture
def rejections(kafka: str, topics: tuple[str, ...]) -> Rejections:  # noqa: ARG001 - made, then used by name
    return Rejections(KafkaSettings(kafka_bootstrap_servers=kafka))


def contents(records: Sequence[Record]) -> list[tuple[bytes | None, bytes | None, list[Header]]]:
    return sorted(((record.key, record.value, list(record.headers)) for record in records), key=repr)


def test_rejections_are_listed_by_what_they_are(rejections: Rejections) -> None:
    for code, tenant in ((C.INTERNAL_ERROR, "acme"), (C.SLO_NOT_FOUND, "acme"), (C.INTERNAL_ERROR, "globex"), (C.VERSION_CONFLICT, "acme")):
        rejections.refuse(code, tenant, used_up=code is not C.INTERNAL_ERROR)
    assert rejections.listed() == ["i-0", "i-1", "i-2", "i-3"]
    assert rejections.listed("--code", "INTERNAL_ERROR") == ["i-0", "i-2"]
    assert rejections.listed("--code", "INTERNAL_ERROR", "--code", "VERSION_CONFLICT", "--tenant", "acme") == ["i-0", "i-3"]
    assert rejections.listed("--tenant", "globex") == ["i-2"]
    assert rejections.listed("--limit", "2") == ["i-2", "i-3"]
    assert rejections.listed("--id", "i-1") == rejections.listed("--id", f"{INTENTS}/0/1") == ["i-1"]
    assert rejections.listed("--type", "RecordSLIWindow") == rejections.listed("--type", "sre.core.v1.RecordSLIWindowRequested")
    assert len(rejections.listed("--type", "RecordSLIWindow")) == 4
    assert rejections.listed("--type", "CreateSLO") == []
    table = rejections.run("list", "--tenant", "globex")
    assert re.search(r"  INTERNAL_ERROR +globex +RecordSLIWindowRequested +checkout +i-2 *$", table, re.MULTILINE)
    assert "acme" not in table


def test_rejections_are_listed_by_time(rejections: Rejections) -> None:
    for _ in range(4):
        rejections.refuse()

    def minute(number: int) -> str:
        return format_rfc3339(START + timedelta(minutes=number))

    assert rejections.listed("--since", minute(2)) == ["i-2", "i-3"]
    assert rejections.listed("--until", minute(2)) == ["i-0", "i-1"]
    assert rejections.listed("--since", minute(1), "--until", minute(3)) == ["i-1", "i-2"]
    assert rejections.listed("--since", minute(9)) == []


def test_what_can_not_be_read_is_named_and_passed_over(rejections: Rejections) -> None:
    rejections.refuse()
    rejections.put_raw(b"garbage \x1b[2J", [("ce_id", b"x")])
    rejections.put_raw(b"", [])
    assert rejections.listed() == ["i-0"]
    assert rejections.run("list", "--json").count("passed over: sre.intents.rejected.v1/0/") == 2


def test_what_a_relay_took_back_is_not_there(rejections: Rejections) -> None:
    row, headers = rejection_of(rejections.topic.append(window(0)), C.INTERNAL_ERROR)
    producer = Producer({"bootstrap.servers": rejections.settings.kafka_bootstrap_servers, "transactional.id": "a-relay"})
    producer.init_transactions()
    producer.begin_transaction()
    producer.produce(REJECTED_TOPIC, row.payload, row.key, row.partition, headers=headers)
    producer.flush()
    producer.abort_transaction()
    rejections.refuse()
    assert rejections.listed() == ["i-0"]


def test_a_rejection_is_shown_by_any_of_its_names(rejections: Rejections) -> None:
    rejections.refuse(extra=[("x-title", b"\x1b]0;owned\x07[bold]")])
    by_intent = rejections.run("show", "i-0")
    rejection_id = json.loads(rejections.run("show", "i-0", "--json"))["id"]
    assert by_intent == rejections.run("show", rejection_id) == rejections.run("show", f"{INTENTS}/0/0")
    assert r"x-title: \x1b]0;owned\x07[bold]" in by_intent
    assert '"width_seconds": 60' in by_intent
    assert "no rejection goes by nobody" in rejections.run("show", "nobody", status=1)
    assert "no rejection goes by i-0" in rejections.run("show", "i-0", "--tenant", "globex", status=1)


def test_a_replay_sends_what_was_refused_byte_for_byte(rejections: Rejections) -> None:
    wild: list[Header] = [("x", b"\xff\x00"), ("x", None), ("", b""), ("ce_traceparent", b"\x80"), ("ünï", b"\x1b[2J")]
    refused = [rejections.refuse(extra=wild) for _ in range(3)]
    assert "3 rejections selected, 3 intents sent" in rejections.run("replay", "--code", "INTERNAL_ERROR")
    sent = rejections.intents()
    assert contents(sent) == contents(refused)
    assert len({record.partition for record in sent}) == 1, "one aggregate, so one partition"
    assert [dict(record.headers)["ce_id"] for record in sent] == [b"i-0", b"i-1", b"i-2"], "in their order"


def test_a_replay_under_a_new_id_is_the_same_each_time(rejections: Rejections) -> None:
    refused = rejections.refuse(C.SLO_NOT_FOUND, used_up=True)
    told = rejections.run("replay", "--id", "i-0", "--dry-run")
    assert rejections.intents() == []
    for _ in range(2):
        rejections.run("replay", "--id", "i-0")
    first, second = rejections.intents()
    assert contents([first]) == contents([second])
    headers = dict(first.headers)
    assert f"as {(headers['ce_id'] or b'').decode()}" in told
    assert (headers["ce_causationid"], headers["ce_correlationid"]) == (b"i-0", b"i-0")
    assert (first.key, first.value, headers["ce_time"]) == (refused.key, refused.value, dict(refused.headers)["ce_time"])


def test_a_replay_sends_no_other_tenants_intents(rejections: Rejections) -> None:
    for tenant in ("acme", "globex", "acme"):
        rejections.refuse(tenant=tenant)
    rejections.put(rejections.topic.append(window(9), tenant="a b"), C.TENANT_REQUIRED)
    assert "2 intents sent" in rejections.run("replay", "--tenant", "acme")
    assert {dict(record.headers)["ce_tenantid"] for record in rejections.intents()} == {b"acme"}


def test_a_replay_of_more_than_its_limit_sends_nothing(rejections: Rejections) -> None:
    for _ in range(3):
        rejections.refuse()
    said = rejections.run("replay", "--tenant", "acme", "--limit", "2", status=1)
    assert "more than 2 rejections are selected, and nothing was sent" in said
    assert rejections.intents() == []
    rejections.run("replay", "--tenant", "acme", "--limit", "3")
    assert len(rejections.intents()) == 3


def test_what_can_not_succeed_is_left_out_by_name_and_the_rest_is_sent(rejections: Rejections) -> None:
    rejections.refuse()
    rejections.put(rejections.topic.append(window(1))._replace(value=b"x" * 1_100_000), C.MESSAGE_TOO_LARGE)
    rejections.put(rejections.topic.append(window(2), tenant="a b"), C.TENANT_REQUIRED)
    said = rejections.run("replay", "--since", format_rfc3339(START), status=1)
    assert "3 rejections selected, 1 intent sent" in said
    assert "1 left out: would be refused again: TENANT_REQUIRED" in said
    assert "1 left out: would be refused again: MESSAGE_TOO_LARGE" in said
    assert len(rejections.intents()) == 1


def test_a_replay_has_to_say_which(rejections: Rejections) -> None:
    rejections.refuse()
    assert "say which" in rejections.run("replay", status=2)
    assert "is not a code" in rejections.run("replay", "--code", "NONSENSE", status=2)
    assert "RFC 3339" in rejections.run("list", "--since", "yesterday", status=2)
    assert rejections.intents() == []
    assert "1 intent to send" in rejections.run("replay", "--dry-run")


def test_the_bare_command_prints_them_as_they_come(rejections: Rejections) -> None:
    rejections.refuse()
    assert json.loads(rejections.run("--from-beginning"))["code"] == "INTERNAL_ERROR"
    assert "is not for list" in rejections.run("--from-beginning", "list", status=2)
