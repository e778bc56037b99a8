"""From a committed row to a read_committed reader, on a real PostgreSQL and a real Apache Kafka."""

from __future__ import annotations

import logging
import time
from threading import Event
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.integration.relay.harness import (
    TIME,
    Fact,
    current_lsn,
    facts_of,
    headers_of,
    insert_facts,
    read_facts,
    read_topic,
    relay_in_thread,
    settings_for,
    slot_position,
    wait_for_facts,
    wait_until,
    wait_until_confirmed,
    wait_until_streaming,
)
from worker.relay import relay, watermark
from worker.relay.slot import OutboxNotEmptyError, PublicationMissingError, SlotUnusableError, ensure_slot, make_slot
from worker.topics import REJECTED_TOPIC, WATERMARK_TOPIC

if TYPE_CHECKING:
    from worker.settings import Settings

pytestmark = pytest.mark.usefixtures("topics")


@pytest.fixture
def settings(kafka: str, database: str) -> Settings:
    return settings_for(kafka, database)


def insert(settings: Settings, facts: list[Fact]) -> None:
    with psycopg.connect(settings.writer_dsn) as connection:
        insert_facts(connection, facts)


def test_facts_arrive_once_in_order_in_their_partition(kafka: str, settings: Settings) -> None:
    facts = facts_of([f"slo-{number}" for number in range(40)], range(1, 26))
    with relay_in_thread(settings):
        wait_until_streaming(settings)
        with psycopg.connect(settings.writer_dsn, autocommit=True) as connection:
            for start in range(0, len(facts), 70):
                insert_facts(connection, facts[start : start + 70])
        wait_for_facts(kafka, facts)


def test_a_fact_arrives_with_its_key_value_and_headers(kafka: str, settings: Settings) -> None:
    fact = Fact("checkout", 7)
    with relay_in_thread(settings):
        wait_until_streaming(settings)
        insert(settings, [fact])
        wait_for_facts(kafka, [fact])
    (message,) = read_topic(kafka)
    assert message.key() == b"acme/checkout/7"
    assert message.value() == b"\xc3\x01" * 100
    assert headers_of(message) == {
        "ce_specversion": "1.0",
        "ce_id": fact.ce_id,
        "ce_source": "/sre-domain",
        "ce_type": "sre.core.v1.SLIWindowRecorded",
        "ce_time": TIME,
        "ce_subject": "checkout",
        "ce_tenantid": "acme",
        "content-type": "application/avro",
        "ce_correlationid": "c",
        "ce_causationid": "i",
        "ce_aggregatetype": "slo",
        "ce_aggregateid": "checkout",
        "ce_aggregateversion": "7",
    }


def test_the_largest_rejection_that_the_outbox_takes_arrives(kafka: str, settings: Settings) -> None:
    payload = uuid4().bytes * 125_000  # 2,000,000 bytes
    with relay_in_thread(settings):
        wait_until_streaming(settings)
        with psycopg.connect(settings.writer_dsn) as connection:
            connection.execute(
                "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, topic, key, partition, tenant_id, ce_time)"
                " VALUES (gen_random_uuid(), 'intent', 'x', 'sre.core.v1.IntentRejected', %s, %s, NULL, 0, '', %s)",
                [payload, REJECTED_TOPIC, TIME],
            )
        wait_until(lambda: len(read_topic(kafka, REJECTED_TOPIC)) == 1, "the rejection arrives")
    (message,) = read_topic(kafka, REJECTED_TOPIC)
    assert (message.key(), message.value()) == (None, payload)
    assert headers_of(message).keys() == {"ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "content-type"}


def test_rows_committed_while_no_relay_runs_arrive_later(kafka: str, settings: Settings) -> None:
    early, late = facts_of("abc", range(1, 10)), facts_of("abc", range(10, 20))
    with relay_in_thread(settings):
        wait_until_streaming(settings)
        insert(settings, early)
        wait_for_facts(kafka, early)
    insert(settings, late)
    with relay_in_thread(settings):
        wait_for_facts(kafka, early + late)


def test_an_aborted_transaction_never_shows(kafka: str, settings: Settings) -> None:
    with relay_in_thread(settings):
        wait_until_streaming(settings)
        with psycopg.connect(settings.writer_dsn) as connection:
            insert_facts(connection, [Fact("a", 1)])
            connection.rollback()
            insert_facts(connection, [Fact("b", 1)])
        wait_for_facts(kafka, [Fact("b", 1)])


def test_transactions_that_overlap_arrive_in_the_order_of_their_commits(kafka: str, settings: Settings) -> None:
    with relay_in_thread(settings), psycopg.connect(settings.writer_dsn) as first, psycopg.connect(settings.writer_dsn) as second:
        wait_until_streaming(settings)
        insert_facts(first, [Fact("a", 2)])
        insert_facts(second, [Fact("a", 1)])
        second.commit()
        first.commit()
        wait_for_facts(kafka, [Fact("a", 1), Fact("a", 2)])


def test_confirmed_transactions_that_come_again_are_passed_over(kafka: str, settings: Settings) -> None:
    """As after a crash of PostgreSQL, which may forget the last confirmations."""
    facts, more = facts_of("ab", range(1, 50)), facts_of("ab", range(50, 60))
    slot, kept = settings.relay_slot, f"{settings.relay_slot}_kept"
    make_slot(settings.relay_dsn, slot)
    with psycopg.connect(settings.writer_dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_copy_logical_replication_slot(%s, %s)", [slot, kept])
        with relay_in_thread(settings):
            insert(settings, facts)
            wait_for_facts(kafka, facts)
            wait_until_confirmed(settings, current_lsn(connection))
        connection.execute("SELECT pg_drop_replication_slot(%s)", [slot])
        connection.execute("SELECT pg_copy_logical_replication_slot(%s, %s)", [kept, slot])
    insert(settings, more)
    with relay_in_thread(settings):
        wait_for_facts(kafka, facts + more)


def test_a_relay_that_takes_the_commit_for_its_end_publishes_twice(kafka: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the watermark is for: this fails to fail where transactions do not come again."""
    monkeypatch.setattr(relay, "confirmable_lsn", lambda group: group.commit_lsn)
    with relay_in_thread(settings) as stop:
        wait_until_streaming(settings)
        insert(settings, [Fact("a", 1)])
        wait_for_facts(kafka, [Fact("a", 1)])
        stop.set()
    with relay_in_thread(settings):
        wait_until(lambda: read_facts(kafka) == [Fact("a", 1)] * 2, "the fact is there twice")


def test_every_kafka_transaction_carries_its_watermark(kafka: str, settings: Settings) -> None:
    with relay_in_thread(settings):
        wait_until_streaming(settings)
        for version in (1, 2):
            insert(settings, [Fact("a", version)])
            wait_for_facts(kafka, facts_of("a", range(1, version + 1)))
        with psycopg.connect(settings.writer_dsn) as connection:
            end = current_lsn(connection)
            (system,) = connection.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone() or ("",)
    messages = read_topic(kafka, WATERMARK_TOPIC)
    database = conninfo_to_dict(settings.relay_dsn)["dbname"]
    assert [message.key() for message in messages] == [f"{system}/{database}/{settings.relay_slot}".encode()] * 2
    first, second = (watermark.decode(message.value() or b"") for message in messages)
    assert 0 < first.lsn < second.lsn <= end
    assert first.timeline == second.timeline == 1


def test_an_idle_relay_lets_the_wal_of_other_tables_and_databases_go(settings: Settings, server: str) -> None:
    with relay_in_thread(settings), psycopg.connect(settings.writer_dsn, autocommit=True) as here:
        wait_until_streaming(settings)
        here.execute("INSERT INTO intake_position (topic, partition, next_offset) VALUES ('t', 0, 1)")
        wait_until_confirmed(settings, current_lsn(here))
        with psycopg.connect(server, autocommit=True) as elsewhere:
            elsewhere.execute("SELECT pg_logical_emit_message(true, 'test', 'elsewhere')")
            wait_until_confirmed(settings, current_lsn(elsewhere))


def test_a_second_relay_waits_and_takes_over(kafka: str, settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "worker.relay")
    early, late = facts_of("abc", range(1, 10)), facts_of("abc", range(10, 20))
    with relay_in_thread(settings) as stop_first:
        wait_until_streaming(settings)
        with relay_in_thread(settings):
            wait_until(lambda: "standing by" in caplog.text, "the second one stands by")
            insert(settings, early)
            wait_for_facts(kafka, early)
            stop_first.set()
            insert(settings, late)
            wait_for_facts(kafka, early + late)
    assert caplog.text.count("standing by") == 1


def test_a_stop_is_obeyed_at_once_while_streaming_and_while_standing_by(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "worker.relay")
    with relay_in_thread(settings):
        wait_until_streaming(settings)
        with relay_in_thread(settings):
            wait_until(lambda: "standing by" in caplog.text, "the second one stands by")
            started = time.monotonic()
        assert time.monotonic() - started < 2
        started = time.monotonic()
    assert time.monotonic() - started < 2


def test_the_first_relay_makes_the_slot_where_the_outbox_is_empty(settings: Settings) -> None:
    assert slot_position(settings.relay_dsn, settings.relay_slot) is None
    with relay_in_thread(settings):
        wait_until_streaming(settings)


def test_a_slot_that_is_made_ahead_streams_what_is_committed_from_then_on(kafka: str, settings: Settings) -> None:
    assert ensure_slot(settings.relay_dsn, settings.relay_slot)
    insert(settings, [Fact("a", 1)])
    assert not ensure_slot(settings.relay_dsn, settings.relay_slot)
    with relay_in_thread(settings):
        wait_for_facts(kafka, [Fact("a", 1)])


def test_no_slot_is_made_beside_rows_that_it_would_miss(settings: Settings) -> None:
    insert(settings, [Fact("a", 1)])
    with pytest.raises(OutboxNotEmptyError, match=rf"slot {settings.relay_slot} does not exist"):
        relay.run(settings, Event())
    assert slot_position(settings.relay_dsn, settings.relay_slot) is None


def test_rows_that_a_policy_hides_do_not_pass_for_an_empty_outbox(settings: Settings) -> None:
    role = f"relay_{uuid4().hex}"
    insert(settings, [Fact("a", 1)])
    with psycopg.connect(settings.writer_dsn, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN REPLICATION")
        admin.execute(f"GRANT sre_relay TO {role}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            make_slot(make_conninfo(settings.relay_dsn, user=role), settings.relay_slot)
        admin.execute(f"DROP ROLE {role}")
    assert slot_position(settings.relay_dsn, settings.relay_slot) is None


def test_a_database_without_the_publication_is_refused(settings: Settings) -> None:
    with psycopg.connect(settings.writer_dsn) as connection:
        connection.execute("DROP PUBLICATION sre_outbox")
    with pytest.raises(PublicationMissingError, match="sre-domain migrate"):
        relay.run(settings, Event())


def test_a_slot_that_cannot_be_streamed_from_is_refused(settings: Settings) -> None:
    with psycopg.connect(settings.writer_dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_create_logical_replication_slot(%s, 'test_decoding')", [settings.relay_slot])
        connection.execute("SELECT pg_drop_replication_slot(%s)", [settings.relay_slot])
        connection.execute("SELECT pg_create_physical_replication_slot(%s)", [settings.relay_slot])
        try:
            with pytest.raises(SlotUnusableError, match=settings.relay_slot):
                relay.run(settings, Event())
        finally:
            connection.execute("SELECT pg_drop_replication_slot(%s)", [settings.relay_slot])
