"""Whatever is killed or goes away, and whenever: nothing is lost, nothing comes twice, and the relay goes on by itself."""

from __future__ import annotations

import logging
import random
import signal
import time
from contextlib import contextmanager
from itertools import count
from threading import Event, Thread
from typing import TYPE_CHECKING

import psycopg
import pytest
from confluent_kafka import Producer
from psycopg.conninfo import make_conninfo

from tests.integration.relay.harness import (
    current_lsn,
    facts_of,
    insert_facts,
    read_facts,
    relay_in_thread,
    relay_process,
    settings_for,
    slot_position,
    wait_for_facts,
    wait_until,
    wait_until_confirmed,
    wait_until_streaming,
)
from worker.devstack.apache_kafka import KafkaBroker, restart_kafka, start_kafka, stop_kafka
from worker.devstack.postgres import PostgresServer, restart_postgres, start_postgres, stop_postgres
from worker.relay.relay import RelayRefusedError, run
from worker.relay.slot import SlotUnusableError, make_slot

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.integration.relay.harness import Fact
    from worker.settings import Settings

AGGREGATES = [f"slo-{number}" for number in range(50)]


@pytest.fixture
def settings(kafka: str, database: str, topics: tuple[str, ...]) -> Settings:  # noqa: ARG001 - there, and empty
    made = settings_for(kafka, database)
    make_slot(made.relay_dsn, made.relay_slot)
    return made


@contextmanager
def inserting(settings: Settings, rows: int = 50, pause_seconds: float = 0.02) -> Iterator[list[Fact]]:
    """Commit `rows` facts at a time, inside the context and whenever PostgreSQL is there; the list has those that were committed."""
    facts: list[Fact] = []
    done = Event()

    def insert() -> None:
        for version in count(1):
            batch = facts_of(AGGREGATES[:rows], [version])
            while not insert_where_missing(settings, batch):
                time.sleep(pause_seconds)
            facts.extend(batch)
            if done.wait(pause_seconds):
                return

    thread = Thread(target=insert)
    thread.start()
    try:
        yield facts
    finally:
        done.set()
        thread.join(60)


def insert_where_missing(settings: Settings, facts: Sequence[Fact]) -> bool:
    """Whether they are committed; an earlier try may have been, although its connection broke."""
    try:
        with psycopg.connect(settings.writer_dsn) as connection:
            if connection.execute("SELECT FROM outbox WHERE id = %s", [facts[0].ce_id]).fetchone() is None:
                insert_facts(connection, facts)
    except psycopg.OperationalError:
        return False
    return True


def test_a_relay_killed_again_and_again_loses_and_doubles_nothing(kafka: str, settings: Settings, tmp_path: Path) -> None:
    moments = random.Random(4711)  # noqa: S311 - the same moments in every run
    with inserting(settings) as facts:
        for _ in range(6):
            with relay_process(settings, tmp_path) as process:
                wait_until(lambda: "relaying" in process.log.read_text(), "the relay publishes")
                time.sleep(moments.uniform(0, 0.3))
                process.kill()
        assert 0 < len(read_facts(kafka)) < len(facts)
    with relay_in_thread(settings):
        wait_for_facts(kafka, facts)


@pytest.mark.parametrize(
    ("last_step", "published"),
    [("worker.relay.publisher.Publisher.commit", 0), ("worker.relay.replication.ReplicationStream.confirm", 200)],
)
def test_a_relay_that_dies_around_a_kafka_commit_loses_and_doubles_nothing(
    kafka: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, last_step: str, published: int
) -> None:
    facts, more = facts_of(AGGREGATES, range(1, 5)), facts_of(AGGREGATES, range(5, 9))

    def die(_self: object, lsn: int, *_: object) -> None:
        if lsn:  # a new relay's first confirmation is of nothing
            raise InterruptedError

    with psycopg.connect(settings.writer_dsn) as connection:
        insert_facts(connection, facts)
    with monkeypatch.context() as broken:
        broken.setattr(last_step, die)
        with pytest.raises(InterruptedError):
            run(settings, Event())
    assert len(read_facts(kafka)) == published
    with psycopg.connect(settings.writer_dsn) as connection:
        insert_facts(connection, more)
    with relay_in_thread(settings):
        wait_for_facts(kafka, facts + more)


def test_a_big_transaction_passes_through_without_being_held(kafka: str, settings: Settings, tmp_path: Path) -> None:
    facts = facts_of(AGGREGATES, range(1, 4_001))
    with relay_process(settings, tmp_path) as process:
        wait_until(lambda: "relaying" in process.log.read_text(), "the relay streams")
        with psycopg.connect(settings.writer_dsn, autocommit=True) as connection:
            insert_facts(connection, facts[:500])  # all that a relay ever needs
            wait_until_confirmed(settings, current_lsn(connection))
            sizes = [process.resident_bytes()]
            insert_facts(connection, facts[500:])
            end = current_lsn(connection)
        while (slot_position(settings.relay_dsn, settings.relay_slot) or (0, False))[0] < end:
            sizes.append(process.resident_bytes())
            time.sleep(0.01)
        assert process.stop() == 0
    wait_for_facts(kafka, facts)
    assert max(sizes) - sizes[0] < 100 * 1_048_576


def test_a_restart_of_kafka_is_waited_out(own_kafka: KafkaBroker, database: str) -> None:
    settings = settings_for(own_kafka.bootstrap_servers, database)
    make_slot(database, settings.relay_slot)
    with relay_in_thread(settings):
        with inserting(settings) as facts:
            wait_until(lambda: len(read_facts(own_kafka.bootstrap_servers)) > 0, "the relay publishes")
            restart_kafka(own_kafka)
        wait_for_facts(own_kafka.bootstrap_servers, facts)


def test_kafka_away_for_longer_than_a_transaction_may_take_is_waited_out(
    own_kafka: KafkaBroker, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_for(own_kafka.bootstrap_servers, database, relay_transaction_timeout_seconds=2)
    make_slot(database, settings.relay_slot)
    with relay_in_thread(settings):
        with inserting(settings) as facts:
            wait_until(lambda: len(read_facts(own_kafka.bootstrap_servers)) > 0, "the relay publishes")
            caplog.set_level(logging.INFO)
            caplog.clear()
            stop_kafka(own_kafka)
            wait_until(lambda: len(caplog.messages) > 0, "the outage is told of")
            time.sleep(6)  # some tries
            start_kafka(own_kafka.directory, own_kafka.port, own_kafka.controller_port)
        wait_for_facts(own_kafka.bootstrap_servers, facts)
    assert_one_outage(caplog, "Kafka")


def test_a_kafka_that_hangs_does_not_cost_the_relay_its_slot(own_kafka: KafkaBroker, database: str) -> None:
    facts = facts_of(AGGREGATES, range(1, 5))
    settings = settings_for(own_kafka.bootstrap_servers, make_conninfo(database, options="-c wal_sender_timeout=3s"))
    make_slot(database, settings.relay_slot)
    with psycopg.connect(database, autocommit=True) as connection:
        sender = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s"
        with relay_in_thread(settings):
            wait_until_streaming(settings)
            wait_until(lambda: (slot_position(database, settings.relay_slot) or (0, False))[0] > 0, "the relay is past its start")
            before = connection.execute(sender, [settings.relay_slot]).fetchone()
            own_kafka.process.send_signal(signal.SIGSTOP)
            insert_facts(connection, facts)
            time.sleep(7)  # twice the WAL sender's patience
            own_kafka.process.send_signal(signal.SIGCONT)
            wait_for_facts(own_kafka.bootstrap_servers, facts)
            assert connection.execute(sender, [settings.relay_slot]).fetchone() == before


def test_a_restart_of_postgresql_is_waited_out(
    kafka: str, topics: tuple[str, ...], own_postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    assert topics
    settings = settings_for(kafka, own_postgres.dsn)
    make_slot(own_postgres.dsn, settings.relay_slot)
    with relay_in_thread(settings):
        with inserting(settings) as facts:
            wait_until(lambda: len(read_facts(kafka)) > 0, "the relay publishes")
            caplog.set_level(logging.INFO)
            caplog.clear()
            started = time.monotonic()
            restart_postgres(own_postgres)
            assert time.monotonic() - started < 9, "the relay held the shutdown up"
        wait_for_facts(kafka, facts)
    assert_one_outage(caplog, "PostgreSQL")


def assert_one_outage(caplog: pytest.LogCaptureFixture, of: str) -> None:
    # What hung in Kafka by the outage is told by others, where anything did.
    waits, goes_on = (record.getMessage() for record in caplog.records if record.name == "worker.relay.relay")
    assert waits.startswith(f"the relay waits: {of}: ")
    assert goes_on.startswith("relaying from slot ")


def test_a_crash_of_postgresql_is_waited_out(kafka: str, topics: tuple[str, ...], own_postgres: PostgresServer) -> None:
    """The slot comes back with the position of the last checkpoint, and what was confirmed since comes again."""
    assert topics
    settings = settings_for(kafka, own_postgres.dsn)
    make_slot(own_postgres.dsn, settings.relay_slot)
    with relay_in_thread(settings):
        with inserting(settings) as facts:
            wait_until(lambda: len(read_facts(kafka)) > 500, "the relay publishes")
            own_postgres.process.kill()
            own_postgres.process.wait(10)
            start_postgres(own_postgres.directory, own_postgres.port)
        wait_for_facts(kafka, facts)


def test_both_away_at_the_start_are_waited_for(own_kafka: KafkaBroker, own_postgres: PostgresServer, tmp_path: Path) -> None:
    facts = facts_of(AGGREGATES, range(1, 5))
    settings = settings_for(own_kafka.bootstrap_servers, own_postgres.dsn)
    stop_postgres(own_postgres)
    stop_kafka(own_kafka)
    with relay_process(settings, tmp_path) as process:
        wait_until(lambda: len(process.lines()) > 0, "the relay says what it waits for")
        time.sleep(2)
        assert len(process.lines()) == 1, process.lines()
        assert "PostgreSQL" in process.lines()[0]
        start_postgres(own_postgres.directory, own_postgres.port)
        time.sleep(3)
        start_kafka(own_kafka.directory, own_kafka.port, own_kafka.controller_port)
        wait_until_streaming(settings)
        with psycopg.connect(settings.writer_dsn) as connection:
            insert_facts(connection, facts)
        wait_for_facts(own_kafka.bootstrap_servers, facts)
        assert process.stop() == 0


@pytest.mark.parametrize("away", ["nothing", "Kafka", "PostgreSQL"])
def test_sigterm_ends_the_process_within_two_seconds(
    own_kafka: KafkaBroker, own_postgres: PostgresServer, tmp_path: Path, away: str
) -> None:
    settings = settings_for(own_kafka.bootstrap_servers, own_postgres.dsn)
    make_slot(own_postgres.dsn, settings.relay_slot)
    with relay_process(settings, tmp_path) as process:
        wait_until(lambda: "relaying" in process.log.read_text(), "the relay streams")
        if away == "Kafka":
            stop_kafka(own_kafka)
            with psycopg.connect(settings.writer_dsn) as connection:
                insert_facts(connection, facts_of("a", [1]))
            time.sleep(1)
        if away == "PostgreSQL":
            stop_postgres(own_postgres)
            wait_until(lambda: "the relay waits" in process.log.read_text(), "the relay waits")
        started = time.monotonic()
        assert process.stop() == 0
        assert time.monotonic() - started < 2


def test_a_relay_that_is_fenced_once_goes_on_and_ends_the_second_time(kafka: str, settings: Settings, tmp_path: Path) -> None:
    facts = facts_of("a", [1, 2])

    def insert_behind_a_usurper(fact: Fact) -> None:
        usurper = Producer({"bootstrap.servers": kafka, "transactional.id": settings.relay_slot})
        usurper.init_transactions(30)
        with psycopg.connect(settings.writer_dsn) as connection:
            insert_facts(connection, [fact])

    with relay_process(settings, tmp_path) as process:
        wait_until(lambda: "relaying" in process.log.read_text(), "the relay streams")
        with psycopg.connect(settings.writer_dsn) as connection:
            insert_facts(connection, facts_of("b", [1]))  # so that its last transaction is young
        wait_for_facts(kafka, facts_of("b", [1]))
        insert_behind_a_usurper(facts[0])
        wait_for_facts(kafka, [*facts_of("b", [1]), facts[0]])
        assert "uses its name as transactional.id" in process.log.read_text()
        insert_behind_a_usurper(facts[1])
        assert process.process.wait(30) == 1
        assert process.lines()[-1].startswith(f"sre-domain: the relay of slot {settings.relay_slot} can't go on: somebody without slot ")


def test_a_slot_whose_wal_is_gone_is_refused(kafka: str, own_postgres: PostgresServer) -> None:
    settings = settings_for(kafka, own_postgres.dsn)
    make_slot(own_postgres.dsn, settings.relay_slot)
    with psycopg.connect(own_postgres.dsn, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
        connection.execute("SELECT pg_reload_conf()")
        for _ in range(3):
            connection.execute("SELECT pg_switch_wal()")
            connection.execute("SELECT pg_logical_emit_message(true, 'test', 'into the next segment')")
        connection.execute("CHECKPOINT")
        wait_until(lambda: connection.execute("SELECT wal_status FROM pg_replication_slots").fetchone() == ("lost",), "the slot is lost")
    with pytest.raises(SlotUnusableError, match=f"slot {settings.relay_slot} .* rebuild"):
        run(settings, Event())


def test_settings_that_kafka_refuses_end_the_relay(database: str) -> None:
    settings = settings_for("127.0.0.1:1", database, kafka_ssl_ca_file=__file__, kafka_security_protocol="SSL")
    with pytest.raises(RelayRefusedError, match=r"can't go on: Kafka: .*ssl\.ca\.location"):
        run(settings, Event())
