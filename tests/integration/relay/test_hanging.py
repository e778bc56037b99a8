"""Records that Kafka left open although it says that their transaction is over: each fact comes once all the same."""

from __future__ import annotations

import random
import signal
from threading import Event
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest
from confluent_kafka.admin import AdminClient

from tests.integration.relay.harness import facts_of, insert_facts, read_facts, relay_in_thread, settings_for, wait_for_facts, wait_until
from tests.integration.relay.test_outages import inserting
from worker.devstack.apache_kafka import KafkaBroker, start_kafka
from worker.kafka_config import librdkafka_config
from worker.relay import hanging, rebuild
from worker.relay.publisher import Publisher
from worker.relay.relay import run
from worker.relay.slot import make_slot
from worker.topics import PARTITIONS, WATERMARK_TOPIC, facts_topic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.integration.relay.harness import Fact
    from worker.settings import Settings

OPEN = [(facts_topic("slo"), partition) for partition in range(PARTITIONS)] + [(WATERMARK_TOPIC, 0)]
FIRST, SECOND, THIRD = facts_of("abcdef", range(1, 40)), facts_of("abcdef", range(40, 80)), facts_of("abcdef", range(80, 90))


@pytest.fixture
def settings(kafka: str, database: str, topics: tuple[str, ...]) -> Settings:
    assert topics
    made = settings_for(kafka, database)
    make_slot(database, made.relay_slot)
    return made


def insert(settings: Settings, facts: Sequence[Fact]) -> None:
    with psycopg.connect(settings.writer_dsn) as connection:
        insert_facts(connection, facts)


def commits_that_come_to_nothing(monkeypatch: pytest.MonkeyPatch, settings: Settings, facts: Sequence[Fact]) -> None:
    """As where the broker answered, and came back without markers: the slot is confirmed and the facts are not there."""
    insert(settings, facts)
    stop, lost = Event(), list[int]()

    def lose(self: Publisher, _key: bytes, _watermark: bytes) -> None:
        self._producer.flush()
        self._in_transaction = False
        self._producer.abort_transaction()
        lost.append(1)
        stop.set()

    with monkeypatch.context() as broken:
        broken.setattr(Publisher, "commit", lose)
        run(settings, stop)
    assert lost


def test_nothing_hangs_of_a_relay_that_runs_or_was_stopped(settings: Settings) -> None:
    with relay_in_thread(settings):
        insert(settings, FIRST)
        wait_for_facts(settings.kafka_bootstrap_servers, FIRST)
    admin = AdminClient(librdkafka_config(settings))
    assert hanging._open_from(admin, hanging._places(librdkafka_config(settings))) == {}


def test_what_is_missing_after_hanging_transactions_is_published_once(
    kafka: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with relay_in_thread(settings):
        insert(settings, FIRST)
        wait_for_facts(kafka, FIRST)
    commits_that_come_to_nothing(monkeypatch, settings, SECOND)
    insert(settings, THIRD)
    with monkeypatch.context() as once:
        once.setattr(hanging, "hanging_partitions", lambda *_: OPEN)
        with relay_in_thread(settings):
            wait_for_facts(kafka, FIRST + SECOND + THIRD)
    assert f"{len(SECOND)} records were missing" in caplog.text or f"{len(SECOND) + len(THIRD)} records were missing" in caplog.text
    with relay_in_thread(settings):
        insert(settings, facts_of("abcdef", [90]))
        wait_for_facts(kafka, FIRST + SECOND + THIRD + facts_of("abcdef", [90]))


@pytest.mark.parametrize("step", ["the watermark is in doubt", "what hung is aborted", "a part is published", "all is published"])
def test_killed_while_it_settles_what_is_in_doubt_it_settles_it_the_next_time(
    kafka: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with relay_in_thread(settings):
        insert(settings, FIRST)
        wait_for_facts(kafka, FIRST)
    commits_that_come_to_nothing(monkeypatch, settings, SECOND)
    commits = {"the watermark is in doubt": 1, "a part is published": 2, "all is published": 99}.get(step, 0)
    with monkeypatch.context() as broken:
        broken.setattr(hanging, "hanging_partitions", lambda *_: OPEN)
        broken.setattr(rebuild, "ROWS_A_TRANSACTION", 50)
        if step == "what hung is aborted":
            dies_after(broken, "abort_in", 1)
        elif step == "all is published":
            broken.setattr(rebuild.logger, "warning", die)
        else:
            dies_after(broken, "commit", commits)
        with pytest.raises(InterruptedError):
            run(settings, Event())
    insert(settings, THIRD)
    with relay_in_thread(settings):
        wait_for_facts(kafka, FIRST + SECOND + THIRD)


def dies_after(monkeypatch: pytest.MonkeyPatch, name: str, calls: int) -> None:
    honest, made = getattr(Publisher, name), list[int]()

    def call(self: Publisher, *given: object) -> None:
        honest(self, *given)
        made.append(1)
        if len(made) == calls:
            raise InterruptedError

    monkeypatch.setattr(Publisher, name, call)


def die(*_: object) -> None:
    raise InterruptedError


def test_kafka_killed_within_transactions_loses_and_doubles_nothing(own_kafka: KafkaBroker, database: str) -> None:
    moments = random.Random(815)  # noqa: S311 - the same moments in every run
    settings = settings_for(own_kafka.bootstrap_servers, database)
    make_slot(database, settings.relay_slot)
    broker = own_kafka
    with relay_in_thread(settings):
        with inserting(settings, pause_seconds=0.005) as facts:
            for _ in range(3):
                published = len(read_facts(broker.bootstrap_servers))
                wait_until(lambda: len(read_facts(broker.bootstrap_servers)) > published, "the relay publishes", 60)  # noqa: B023
                Event().wait(moments.uniform(0, 0.3))
                broker.process.send_signal(signal.SIGKILL)
                broker.process.wait(10)
                broker = start_kafka(broker.directory, broker.port, broker.controller_port)
        wait_for_facts(broker.bootstrap_servers, facts, 120)
    psutil.Process(broker.process.pid).kill()
    broker.process.wait(10)
