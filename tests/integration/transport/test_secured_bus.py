"""Worker, relay, publishers and readers on an Apache Kafka with SASL_SSL, mutual TLS and ACLs, and a PostgreSQL with TLS."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError
from confluent_kafka.admin import AclOperation, ResourceType
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth
from pydantic import SecretStr

from tests.support.bus_attempts import Intruder, allowed
from tests.support.certificates import Authority
from tests.support.kafka import require_java_and_maven
from tests.support.records import CODEC, create
from tests.support.secured_kafka import GROUP, KEY_PASSWORD, MECHANISMS, SLOT, secured_kafka
from tests.support.secured_postgres import secured_postgres
from tests.support.system import wait_until
from worker import topic_admin
from worker.acls import Job, Right
from worker.agents import EXIT_SOFTWARE
from worker.client import Intent, IntentPublisher, read_committed
from worker.doctor import bus as bus_lines
from worker.doctor import rights
from worker.doctor.bus import check_topic_settings, check_topics
from worker.doctor.rights import check_rights
from worker.domain.aggregate import AGGREGATES
from worker.evidence import to_record
from worker.faust_credentials import credentials
from worker.settings import Settings
from worker.topic_admin import TopicsUnavailableError, make_topics, partition_counts
from worker.topics import REJECTED_TOPIC, WATERMARK_TOPIC, facts_topic, intents_topic, topic_specs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.secured_kafka import SecuredKafka
    from tests.support.secured_postgres import SecuredPostgres
    from worker.doctor.finding import Finding

ROOT = Path(__file__).parents[3]
INTENTS, FACTS = intents_topic("slo"), facts_topic("slo")
SECONDS = 60


@dataclass(frozen=True, slots=True)
class Service:
    process: subprocess.Popen[bytes]
    log: Path

    def says(self, text: str) -> bool:
        return text in self.log.read_text()


@dataclass(frozen=True, slots=True)
class Bus:
    kafka: SecuredKafka
    postgres: SecuredPostgres
    directory: Path

    @contextmanager
    def running(self, command: str, mechanism: str = "SCRAM-SHA-512") -> Iterator[Service]:
        """A service as a process, which ends well when it is told to, unless it has ended before."""
        log = self.directory / f"{command}-{mechanism}-{time.monotonic_ns()}.log"
        given = {**self.kafka.environment(command, mechanism), **self.postgres.environment(), "PYTHONPATH": str(ROOT)}
        given["SRE_SESSION_TIMEOUT_SECONDS"] = "3"  # how long a worker that has ended at once is waited for
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SRE_")}
        with log.open("wb") as output:
            process = subprocess.Popen([sys.executable, "-m", "worker", command], env=inherited | given, stdout=output, stderr=output)
        try:
            yield Service(process, log)
            if process.poll() is None:
                process.terminate()
                assert process.wait(30) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()

    @contextmanager
    def without(self, job: str, right: Right) -> Iterator[None]:
        self.kafka.forbid(job, [right])
        try:
            yield
        finally:
            self.kafka.allow(job, [right])

    def waits_for_rights(self) -> bool:
        """Whether a worker that starts without the right to see a topic says so, and waits."""
        with self.running("worker") as worker:
            wait_until(lambda: worker.says("waiting for Kafka: topics are missing, or this login may not see them"), SECONDS, self.logs)
            return worker.process.poll() is None

    def ask_for(self, slo: str, mechanism: str = "SCRAM-SHA-512") -> str:
        """Publish an intent and return its id."""
        intent = Intent("CreateSLORequested", "acme", slo, create(), "/tests", f"create-{slo}", time=datetime.now(UTC))
        with IntentPublisher(self.kafka.settings(Job.PUBLISHER, mechanism), CODEC) as publisher:
            publisher.publish([intent])
        return intent.intent_id

    def facts_of(self, intent_id: str, mechanism: str = "SCRAM-SHA-512") -> int:
        """How many facts an intent has by now, for a reader."""
        messages = read_committed(self.kafka.settings(Job.READER, mechanism), [FACTS], from_beginning=True)
        return sum((dict(to_record(message).headers).get("ce_causationid") or b"").decode() == intent_id for message in messages)

    def wait_for_fact(self, intent_id: str, mechanism: str = "SCRAM-SHA-512") -> None:
        wait_until(lambda: self.facts_of(intent_id, mechanism) == 1, SECONDS, self.logs)

    def logs(self) -> str:
        return "".join(f"\n--- {path.name}\n{path.read_text()[-3000:]}" for path in sorted(self.directory.glob("*.log")))


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    require_java_and_maven()
    directory = tmp_path_factory.mktemp("secured")
    with secured_kafka(directory) as kafka, secured_postgres(directory / "postgres", kafka.authority) as postgres:
        make_topics(kafka.settings(Job.ADMIN), topic_specs(tuple(AGGREGATES)), 1)
        yield Bus(kafka, postgres, directory)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_an_intent_becomes_a_fact_whatever_the_login(bus: Bus, mechanism: str) -> None:
    with bus.running("worker", mechanism), bus.running("relay", mechanism):
        bus.wait_for_fact(bus.ask_for(f"by-{mechanism.lower()}", mechanism), mechanism)


READ_INTENTS = Right(ResourceType.TOPIC, INTENTS, (AclOperation.READ,))
READ_GROUP = Right(ResourceType.GROUP, GROUP, (AclOperation.READ,))


@pytest.mark.parametrize("right", [READ_INTENTS, READ_GROUP], ids=["topic", "group"])
def test_a_worker_that_loses_a_right_says_which_and_ends_and_loses_nothing(bus: Bus, right: Right) -> None:
    with bus.running("relay"):
        with bus.running("worker") as worker:
            wait_until(lambda: worker.says("taking intents"), SECONDS, bus.logs)
            with bus.without(Job.WORKER, right):
                asked = bus.ask_for(f"worker-without-{right.name}".replace(".", "-"))
                assert worker.process.wait(SECONDS) == EXIT_SOFTWARE
                (line,) = [line for line in worker.log.read_text().splitlines() if "CRITICAL" in line]
                assert "Kafka refuses this worker a right that it needs, and the process ends" in line
                assert line.endswith(f"AuthorizationFailedError: {right.name}")
                assert not worker.says("Traceback")
                assert right is READ_GROUP or bus.waits_for_rights()
        with bus.running("worker") as worker:
            wait_until(lambda: worker.says("taking intents"), SECONDS, bus.logs)
            bus.wait_for_fact(asked)


def test_a_relay_that_loses_a_right_says_which_and_waits_for_it(bus: Bus) -> None:
    losses = {
        "Topic authorization failed": Right(ResourceType.TOPIC, FACTS, (AclOperation.WRITE,)),
        "Transactional Id authorization failed": Right(ResourceType.TRANSACTIONAL_ID, SLOT, (AclOperation.WRITE,)),
    }
    with bus.running("worker"), bus.running("relay") as relay:
        bus.wait_for_fact(bus.ask_for("relay-with-its-rights"))
        for place, (answer, right) in enumerate(losses.items()):
            with bus.without(Job.RELAY, right):
                asked = bus.ask_for(f"relay-without-right-{place}")
                wait_until(lambda: relay.says(answer), SECONDS, bus.logs)  # noqa: B023 - called in this turn
            bus.wait_for_fact(asked)
        waits = [line for line in relay.log.read_text().splitlines() if "the relay waits: " in line]
        assert [any(answer in line for line in waits) for answer in losses] == [True, True]
        assert not relay.says("Traceback")


MAY = {
    Job.WORKER: {"read intents", "move the worker's group", "see the lag of the worker's group"},
    Job.RELAY: {f"{what} {topic}" for what in ("read", "write") for topic in ("facts", "rejections", "watermark")} | {"be the relay"},
    Job.PUBLISHER: {"write intents"},
    Job.READER: {"read facts", "read rejections"},
    Job.ADMIN: set[str](),  # the topics are there already: to make them is all it may
    Job.SCALER: {"see the lag of the worker's group"},
}
"""By job, all that the broker lets its principal do of what is tried."""


@pytest.mark.parametrize("job", Job)
def test_nobody_may_do_more_than_its_job(bus: Bus, job: Job) -> None:
    intruder = Intruder(bus.kafka.settings(job))
    topics = {"intents": INTENTS, "facts": FACTS, "rejections": REJECTED_TOPIC, "watermark": WATERMARK_TOPIC}
    attempts: dict[str, Callable[[], None]] = {
        **{f"read {name}": partial(intruder.read, topic) for name, topic in topics.items()},
        **{f"write {name}": partial(intruder.write, topic) for name, topic in topics.items()},
        **{f"delete {name}": partial(intruder.delete, topic) for name, topic in topics.items()},
        **{f"shorten {name}": partial(intruder.shorten_retention, topic) for name, topic in topics.items()},
        **{f"delete records of {name}": partial(intruder.delete_records, topic) for name, topic in topics.items()},
        "create a topic": partial(intruder.create, "sre.slo.facts.v2"),
        "move the worker's group": partial(intruder.move_group, GROUP, INTENTS),
        "see the lag of the worker's group": partial(intruder.see_lag, GROUP, INTENTS),
        "be the relay": partial(intruder.take_over, SLOT),
        "grant itself facts": partial(intruder.grant_itself, job, FACTS),
    }
    with closing(intruder):
        assert allowed(attempts) == MAY[job]


@dataclass(frozen=True, slots=True)
class Wrong:
    mechanism: str
    changes: dict[str, str]
    reason: str


def wrong_logins(kafka: SecuredKafka) -> dict[str, Wrong]:
    other = Authority(kafka.directory, "other")
    certificate, key = other.issue("impostor", password=KEY_PASSWORD)
    untrusted = {"SRE_KAFKA_SSL_CERTIFICATE_FILE": str(certificate), "SRE_KAFKA_SSL_KEY_FILE": str(key)}
    wrong_host = {"SRE_KAFKA_BOOTSTRAP_SERVERS": f"localhost:{kafka.sasl_port}"}
    password = {"SRE_KAFKA_SASL_PASSWORD": "TOPSECRET-wrong"}
    secret = {"SRE_KAFKA_OAUTH_CLIENT_SECRET": "TOPSECRET-wrong"}
    verify_failed = "certificate"
    return {
        "a wrong password": Wrong("PLAIN", password, "Authentication failed"),
        "a wrong SCRAM password": Wrong("SCRAM-SHA-256", password, "Authentication failed"),
        "a wrong client secret": Wrong("OAUTHBEARER", secret, "invalid_client"),
        "another authority": Wrong("SCRAM-SHA-512", {"SRE_KAFKA_SSL_CA_FILE": str(other.ca)}, verify_failed),
        "a host that the certificate does not name": Wrong("SCRAM-SHA-512", wrong_host, verify_failed),
        "a certificate of another authority": Wrong("mTLS", untrusted, "transport failure"),
    }


@pytest.mark.parametrize(
    "name",
    [
        "a wrong password",
        "a wrong SCRAM password",
        "a wrong client secret",
        "another authority",
        "a host that the certificate does not name",
        "a certificate of another authority",
    ],
)
def test_neither_client_gets_in_with(bus: Bus, name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = wrong_logins(bus.kafka)[name]
    monkeypatch.setattr(topic_admin, "_TIMEOUT_SECONDS", 3.0)  # a certificate is refused without a word
    settings = bus.kafka.settings(Job.WORKER, wrong.mechanism, **wrong.changes)
    with pytest.raises(TopicsUnavailableError, match=wrong.reason):
        partition_counts(settings, [INTENTS])

    async def begin() -> None:
        auth = credentials_to_aiokafka_auth(credentials(settings))
        consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap_servers, **auth)
        try:
            await consumer.start()
        finally:
            await consumer.stop()

    with pytest.raises(KafkaConnectionError):
        asyncio.run(begin())
    assert caplog.records
    assert "TOPSECRET" not in caplog.text


# --- What the doctor says to each login


def doctor_of(bus: Bus, job: str, check: str) -> list[Finding]:
    kafka = bus.kafka.settings(job)
    settings = Settings(
        **kafka.model_dump(exclude_none=True), database_url=SecretStr("postgresql://"), consumer_group=GROUP, relay_slot=SLOT
    )
    checks: dict[str, Callable[[Settings], Iterator[Finding]]] = {
        "topics": check_topics,
        "settings of topics": partial(check_topic_settings, inbox_retention_days=30),
        "rights": check_rights,
    }
    return list(checks[check](settings))


@pytest.mark.parametrize("job", Job)
def test_the_doctor_tells_a_login_that_it_may_do_its_job(bus: Bus, job: Job) -> None:
    (found,) = doctor_of(bus, job, "rights")
    assert found == rights.ENOUGH.of(jobs=job)
    sees_all = job is Job.ADMIN
    topics, settings = doctor_of(bus, job, "topics"), doctor_of(bus, job, "settings of topics")
    assert [finding.status for finding in topics] == [*([] if sees_all else ["not checked"]), "ok"]
    assert sees_all or topics[0].do == bus_lines.HIDDEN.do
    assert settings == ([bus_lines.KEPT.of()] if sees_all else [bus_lines.NOT_DESCRIBED.of()])


def test_the_doctor_names_a_right_that_is_missing_and_one_that_is_too_much(bus: Bus) -> None:
    group = Right(ResourceType.GROUP, GROUP, (AclOperation.READ,))
    with bus.without(Job.WORKER, group):
        wait_until(
            lambda: doctor_of(bus, Job.WORKER, "rights") == [rights.NO_JOB.of(job="worker", rights=f"READ on {GROUP}")], SECONDS, bus.logs
        )
    forging = Right(ResourceType.TOPIC, FACTS, (AclOperation.WRITE,))
    bus.kafka.allow(Job.WORKER, [forging])
    try:
        expected = [rights.EXCESS.of(rights=f"WRITE on {FACTS}", jobs="worker")]
        wait_until(lambda: doctor_of(bus, Job.WORKER, "rights") == expected, SECONDS, bus.logs)
    finally:
        bus.kafka.forbid(Job.WORKER, [forging])
