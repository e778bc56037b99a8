"""The programs of examples/ against a real Apache Kafka, the worker and the relay: the contract is enough to take part."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4, uuid5

import psycopg
import pytest

from tests.support.facts import fact_headers, transaction, write_fact
from tests.support.roles import as_relay, as_writer
from worker.partitioner import partition_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from confluent_kafka import Producer

EXAMPLES = Path(__file__).parents[2] / "examples"
SLO = "payments-availability"  # librdkafka's own partitioner would put it elsewhere
CREATE = ("create-slo", SLO, "--name", "Checkout", "--target", "99.9", "--owner", "team-checkout", "--scope", "checkout", "--actor", "ann")
NAMESPACE = UUID("0207f3fb-2f2c-5120-a4ef-9e5579b87cb1")
DEADLINE_SECONDS = 60

pytestmark = pytest.mark.usefixtures("topics")


def run(program: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, EXAMPLES / program, *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS
    )


def publish(kafka: str, *command: str, stdin: str = "") -> list[str]:
    """Ids of the intents that Kafka acknowledged."""
    done = run("publish_intents.py", "--bootstrap", kafka, "--tenant", "acme", *command, stdin=stdin)
    assert done.returncode == 0, done.stderr
    acknowledged = [json.loads(line) for line in done.stdout.splitlines()]
    assert {intent["partition"] for intent in acknowledged} == {partition_of(SLO.encode(), 12)}
    return [intent["intent_id"] for intent in acknowledged]


def read_until(kafka: str, count: int, aggregate: str = "slo") -> list[dict[str, Any]]:
    """The tenant's facts, once there are as many."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        done = run("read_facts.py", "--bootstrap", kafka, "--tenant", "acme", "--aggregate", aggregate)
        assert done.returncode == 0, done.stderr
        facts = [json.loads(line) for line in done.stdout.splitlines()]
        if len(facts) >= count:
            return facts
        assert time.monotonic() < deadline, f"{len(facts)} of {count} facts: {facts}"


def counts(*windows: tuple[int, int, int]) -> str:
    """Lines for `record-windows`: minutes ago, good, total."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    return "".join(f"{(now - timedelta(minutes=ago)).isoformat()},{good},{total}\n" for ago, good, total in windows)


@contextmanager
def service(command: str, environment: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "worker", command], env=environment, stdout=output, stderr=output)
    try:
        yield
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_slot(database: str, slot: str) -> None:
    """Facts from before the slot would be missing, and the relay would refuse to start."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    with psycopg.connect(database, autocommit=True) as connection:
        while connection.execute("SELECT active FROM pg_replication_slots WHERE slot_name = %s", [slot]).fetchone() != (True,):
            assert time.monotonic() < deadline, "the relay did not take its slot"
            time.sleep(0.05)


@pytest.fixture
def system(kafka: str, database: str, tmp_path: Path) -> Iterator[str]:
    """Bootstrap servers of a Kafka on which a worker and a relay take intents and publish facts."""
    slot = f"test_{uuid4().hex}"
    settings = {
        "SRE_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "SRE_DATABASE_URL": as_writer(database),
        "SRE_RELAY_DATABASE_URL": as_relay(database),
        "SRE_RELAY_SLOT": slot,
        "SRE_CONSUMER_GROUP": slot,
    }
    with ExitStack() as services:
        services.enter_context(service("relay", os.environ | settings, tmp_path / "relay.log"))
        wait_for_slot(database, slot)
        services.enter_context(service("worker", os.environ | settings, tmp_path / "worker.log"))
        yield kafka


def test_a_stranger_publishes_intents_and_reads_their_facts(system: str) -> None:
    (created,) = publish(system, *CREATE)
    windows = counts((9, 985, 1000), (8, 100_000, 100_000))
    spent, refilled = publish(system, "record-windows", SLO, stdin=windows)
    facts = read_until(system, 5)

    assert [(fact["version"], fact["fact"], fact["intent_id"]) for fact in facts] == [
        (1, "SLOCreated", created),
        (2, "SLIWindowRecorded", spent),
        (3, "SLOBudgetExhausted", spent),
        (4, "SLIWindowRecorded", refilled),
        (5, "SLOBudgetRecovered", refilled),
    ]
    assert {(fact["tenant"], fact["aggregate"], fact["id"]) for fact in facts} == {("acme", "slo", SLO)}
    assert [fact["fact_id"] for fact in facts] == [str(uuid5(NAMESPACE, f"fact\nacme\nslo\n{SLO}\n{version}")) for version in range(1, 6)]
    assert facts[0]["data"]["target"] == "99.900000"
    assert facts[2]["data"]["budget"]["current_budget_remaining"] == "-1400.000000"
    assert facts[4]["data"]["budget"]["budget_consumed"] == "14.851485"


def test_a_second_run_of_the_publisher_changes_nothing(system: str) -> None:
    publish(system, *CREATE)
    windows = counts((9, 999, 1000), (8, 999, 1000))
    first_run = publish(system, "record-windows", SLO, stdin=windows)
    assert publish(system, "record-windows", SLO, stdin=windows) == first_run
    (last,) = publish(system, "record-windows", SLO, stdin=counts((7, 1000, 1000)))  # in the same partition, so decided after the repeats

    facts = read_until(system, 5)
    recorded = [(fact["version"], fact["intent_id"]) for fact in facts if fact["fact"] == "SLIWindowRecorded"]
    assert recorded == [(2, first_run[0]), (4, first_run[1]), (5, last)]


INCIDENT = "5f8d2c1e-6b1d-4f0f-8c64-0b8f6a3d2e10"
ALERT = str(uuid5(NAMESPACE, "alert\nacme\ncustom\ndisk-full-7"))
CHECK = str(uuid5(NAMESPACE, "healthcheck\nacme\nprod-eu/payments/checkout\nargocd"))
FLEET = str(uuid5(NAMESPACE, "fleetstate\nacme\nproduction\nprod-eu"))
COUNTS = dict.fromkeys((f"{kind}_count" for kind in ("healthy", "degraded", "progressing", "unknown", "out_of_sync")), 0)
OTHERS: list[tuple[str, str, str, dict[str, Any], str]] = [
    ("incident", "CreateIncident", INCIDENT, {"title": "Down", "severity": "high", "source": "manual", "actor": "ann"}, "IncidentCreated"),
    (
        "alert",
        "IngestAlert",
        ALERT,
        {"source": "custom", "fingerprint": "disk-full-7", "name": "DiskFull", "severity": "low", "status": "firing"}
        | {"labels": {"disk": "7"}, "starts_at": "2026-03-02T00:00:00Z"},
        "AlertIngested",
    ),
    (
        "runbook",
        "CreateRunbook",
        "free-a-disk",
        {"title": "Free a disk", "automation_level": "manual", "approval_required": True, "owner": "sre", "actor": "ann"}
        | {"steps": [{"step_id": "look", "title": "Look at what is large"}]},
        "RunbookCreated",
    ),
    (
        "healthcheck",
        "RecordHealthCheck",
        CHECK,
        {"resource_ref": "prod-eu/payments/checkout", "source": "argocd", "timestamp": "2026-03-02T00:00:00Z"}
        | {"status": "degraded", "raw_status": "Progressing"},
        "HealthCheckRecorded",
    ),
    (
        "fleetstate",
        "RecordFleetState",
        FLEET,
        {"environment_id": "production", "cluster_id": "prod-eu", "timestamp": "2026-03-02T00:00:00Z", "total_applications": 0, **COUNTS},
        "FleetStateRecorded",
    ),
]


def test_a_stranger_asks_every_other_aggregate(system: str) -> None:
    asked = {}
    for aggregate, intent, aggregate_id, fields, fact in OTHERS:
        asking = ("--bootstrap", system, "--tenant", "acme", "ask", aggregate, intent, aggregate_id)
        done = run("publish_intents.py", *asking, stdin=json.dumps(fields))
        assert done.returncode == 0, done.stderr
        asked[aggregate] = (fact, 1, aggregate_id, json.loads(done.stdout)["intent_id"])
    found = {aggregate: read_until(system, 1, aggregate)[0] for aggregate in asked}
    assert {name: (fact["fact"], fact["version"], fact["id"], fact["intent_id"]) for name, fact in found.items()} == asked


def produce_fact(producer: Producer, version: int, name: str = "SLOBudgetRecovered", value: bytes | None = None) -> str:
    """The id of the fact."""
    write_fact(producer, version, aggregate_id=SLO, name=name, value=value)
    return fact_headers(name, version, aggregate_id=SLO)["ce_id"]


def test_the_reader_skips_repeats_aborted_facts_and_facts_it_does_not_know(kafka: str) -> None:
    with transaction(kafka) as producer:
        first = produce_fact(producer, 1)
    with transaction(kafka, abort=True) as producer:
        produce_fact(producer, 2)
    with transaction(kafka) as producer:
        second = produce_fact(producer, 2)
        produce_fact(producer, 1)
        produce_fact(producer, 3, "SLOFactOfTomorrow", b"\xc3\x01" + bytes(8))
        fourth = produce_fact(producer, 4)
    facts = read_until(kafka, 3)
    assert [(fact["version"], fact["fact_id"]) for fact in facts] == [(1, first), (2, second), (4, fourth)]


def test_the_reader_stops_at_a_gap(kafka: str) -> None:
    with transaction(kafka) as producer:
        for version in (1, 2, 4, 5):
            produce_fact(producer, version)
    done = run("read_facts.py", "--bootstrap", kafka)
    assert [json.loads(line)["version"] for line in done.stdout.splitlines()] == [1, 2]
    assert done.returncode == 1
    assert "version 4 follows 2" in done.stderr.splitlines()[-1]
