"""A real registry beside a real worker and relay: Confluent framing in and out, strangers' tools, and the registry away for a while."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from tests.support.avro_files import current_schema
from tests.support.facts import Applied
from tests.support.probes import ask, committed, listen_somewhere
from tests.support.records import CODEC, SPEC, create
from tests.support.system import System, environment_of, running_system, wait_until
from worker.client import FactReader, Intent, IntentPublisher, Outgoing, to_outgoing
from worker.doctor.surroundings import REGISTRY, check_registry
from worker.domain.aggregate import intent_name
from worker.domain.slo import RecordSLIWindow
from worker.partitioner import partition_of
from worker.registry import Registry, codec_of
from worker.subjects import TOPIC_OF_RECORD, subject_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.registry import ApicurioRegistry
    from worker.envelope import Record

pytestmark = pytest.mark.timeout(300)

WINDOW = "RecordSLIWindowRequested"
NOW = datetime.now(UTC)
LINE = json.dumps(
    {
        "type": "RecordSLIWindow",
        "tenant": "acme",
        "key": "checkout",
        "data": {"start": "2026-03-02T00:00:00Z", "width_seconds": 60, "good": 1, "total": 1},
    }
)


@pytest.fixture
def system(
    kafka: str,
    database: str,
    topics: tuple[str, ...],  # noqa: ARG001 - made, then used by name
    registry: ApicurioRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[System]:
    with running_system(kafka, database, tmp_path) as running:
        framed = {"schema_registry_url": registry.url, "encoding": "confluent"}
        running.settings = running.settings.model_copy(update=framed)
        for name, value in framed.items():
            monkeypatch.setenv(f"SRE_{name.upper()}", value)
        yield running


def schemas(command: str, url: str) -> tuple[int, str]:
    program = [sys.executable, "-m", "worker", "schemas", command]
    done = subprocess.run(
        program, env={**os.environ, "SRE_SCHEMA_REGISTRY_URL": url}, capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout + done.stderr


def framed(record: Outgoing, schema_id: int) -> Outgoing:
    return replace(record, value=b"\x00" + schema_id.to_bytes(4, "big") + record.value[10:])


def window(slo_id: str, minute: int) -> Outgoing:
    start = NOW.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1) + timedelta(minutes=minute)
    command = RecordSLIWindow(start=start, width_seconds=60, good=100, total=100)
    return to_outgoing(Intent(WINDOW, "acme", slo_id, command, "/tests", time=NOW), CODEC)


def in_different_partitions(count: int) -> list[str]:
    """Ids of SLOs whose intents lie in a partition each."""
    by_partition = {partition_of(slo_id.encode(), 12): slo_id for slo_id in (f"slo-{number}" for number in range(200))}
    return list(by_partition.values())[:count]


def header(record: Record, name: str) -> str:
    return (dict(record.headers)[name] or b"").decode()


def strangers_read_the_facts(system: System, client: SchemaRegistryClient) -> None:
    facts = [record for record in system.seen if record.topic == "sre.slo.facts.v1"]
    assert {(record.value or b"")[:1] for record in facts} == {b"\x00"}
    told = [by_the_clients_own_reader(record, client) for record in facts]
    assert [fact["name"] for fact in told if "name" in fact] == ["Checkout availability"] * 3
    assert [fact["budget"]["budget_status"] for fact in told if "budget" in fact] == ["available"]
    assert told[0]["sli_spec"]["good"] == SPEC.good


def refusal(system: System, client: SchemaRegistryClient) -> tuple[str, str, str]:
    """Code, subject and fault of the one rejection."""
    (rejected,) = [record for record in system.seen if record.topic == "sre.intents.rejected.v1"]
    told = by_the_clients_own_reader(rejected, client)
    (violation,) = told["violations"]
    return told["code"], header(rejected, "ce_subject"), violation["message"]


def by_the_clients_own_reader(record: Record, client: SchemaRegistryClient) -> Any:  # noqa: ANN401 - what was written
    return AvroDeserializer(client)(record.value, SerializationContext(record.topic, MessageField.VALUE))


def publish_a_line(system: System) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "worker", "publish", "-"],
        env={**os.environ, **environment_of(system.settings)},
        input=LINE,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


def test_schemas_are_registered_once_and_held_against_what_is_there(registry: ApicurioRegistry) -> None:
    schemas("register", registry.url)  # another test may have been first
    assert schemas("register", registry.url) == (0, f"0 registered, {len(TOPIC_OF_RECORD)} were there\n")
    status, said = schemas("check", registry.url)
    assert (status, "and the registry" in said) == (0, True), said
    client = SchemaRegistryClient({"url": registry.url})
    assert {client.get_compatibility(subject_of(record)) for record in TOPIC_OF_RECORD} == {"BACKWARD_TRANSITIVE"}
    assert list(check_registry(registry.url)) == [REGISTRY.of(count=len(client.get_subjects()))]
    subject = subject_of("SLOUpdated")
    longer = current_schema("SLOUpdated")
    longer["fields"].append({"name": "ticket", "type": "string"})
    client.set_compatibility(subject, "NONE")
    client.register_schema(subject, Schema(json.dumps({**longer, "fields": longer["fields"][-1:]}), "AVRO"))
    try:
        status, said = schemas("check", registry.url)
        assert (status, said) == (1, f"{subject}: its compatibility is not BACKWARD_TRANSITIVE: sre-domain schemas register\n")
        assert schemas("register", registry.url)[0] == 0, "our version is there all the same"
        status, said = schemas("check", registry.url)
        assert status == 1
        assert said.startswith(f"{subject}: the registry would refuse this version's schema"), said
    finally:
        client.delete_subject(subject)
        assert schemas("register", registry.url)[0] == 0


def test_framed_intents_become_framed_facts_and_a_registry_that_is_away_holds_back_unseen_ids_alone(
    system: System, registry: ApicurioRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert schemas("register", registry.url)[0] == 0
    client = SchemaRegistryClient({"url": registry.url})
    known = next(Registry(system.settings).versions(subject_of(WINDOW))).schema_id
    theirs = {**current_schema(WINDOW), "doc": f"As another team describes it, {uuid4()}."}
    unseen = client.register_schema("sre.slo.intents.v1-value", Schema(json.dumps(theirs), "AVRO"))
    assert unseen != known
    port = listen_somewhere(monkeypatch)
    worker = system.start("worker")
    monkeypatch.delenv("SRE_HEALTH_ADDRESS")
    system.start("relay")
    going_on, waiting, made_up = in_different_partitions(3)
    with IntentPublisher(system.settings) as publisher:
        delivered = publisher.publish(
            Intent(intent_name(type(create())), "acme", slo_id, create(), "/tests", time=NOW) for slo_id in (going_on, waiting, made_up)
        )
    assert len({place.partition for place in delivered}) == 3
    system.publish([framed(window(going_on, 0), known)])
    system.wait_for_outcomes(4)
    system.wait_until_published()

    strangers_read_the_facts(system, client)

    registry.stop()
    try:
        system.publish([framed(window(waiting, 0), unseen), framed(window(waiting, 1), known), framed(window(made_up, 0), 2**31 - 1)])
        wait_until(lambda: any("unseen schema ids" in why for why in ask(port, "/readyz").reasons), 60, system.logs)
        system.publish([framed(window(going_on, minute), known) for minute in range(1, 21)])
        system.wait_for_outcomes(24)
        assert system.count("inbox") == 24, "what waits has no outcome"
        assert ask(port, "/livez").status == 200
        assert publish_a_line(system) == (1, "sre-domain: the schema registry does not answer: ConnectError\n")
        worker.terminate()
        assert worker.wait(30) == 0, system.logs()
        offsets = committed(system.settings)
        assert [offsets[place.topic, place.partition] - place.offset for place in delivered] == [22, 1, 1], "what waits is not acknowledged"
        monkeypatch.setenv("SRE_HEALTH_ADDRESS", f"127.0.0.1:{port}")
        system.start("worker")
        wait_until(lambda: ask(port, "/readyz").reasons == ("waiting for the schema registry",), 60, system.logs)
    finally:
        registry.start()
    system.wait_for_outcomes(27)
    system.wait_until_published()
    wait_until(lambda: ask(port, "/readyz").status == 200, 60, lambda: f"{ask(port, '/readyz')} {system.logs()}")

    assert system.count("inbox", "outcome = 'facts'") == 26
    assert refusal(system, client) == ("SCHEMA_INVALID", made_up, "names a schema that the registry does not have")
    applied = Applied()
    for batch in FactReader(system.settings, ["slo"], applied).catch_up():
        applied.apply(batch)
    assert sum(applied.versions.values()) == len([record for record in system.seen if record.topic == "sre.slo.facts.v1"])
    assert system.breaches(codec=codec_of(system.settings)) == []
    assert "HTTP" not in system.log("worker").read_text(), "the client's own lines name the registry with its login"
