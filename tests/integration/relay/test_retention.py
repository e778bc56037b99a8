"""Partitions come and go under a relay, and each fact is published once, also by one that is behind; an idle outbox keeps no WAL."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.integration.relay.harness import facts_of, insert_facts, read_facts, relay_in_thread, settings_for, wait_for_facts, wait_until
from tests.support.roles import as_writer
from worker.devstack.logins import make_logins
from worker.devstack.postgres import running_postgres
from worker.postgres.maintenance import Report, maintain
from worker.postgres.maintenance_timer import retention_of
from worker.postgres.migrate import migrate
from worker.relay.slot import make_slot

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.integration.relay.harness import Fact
    from worker.settings import Settings

AGGREGATES = [f"slo-{number}" for number in range(50)]
MIB = 1 << 20
SEGMENT = 16 * MIB


@pytest.fixture
def settings(kafka: str, database: str, topics: tuple[str, ...]) -> Settings:  # noqa: ARG001 - there, and empty
    made = settings_for(kafka, database)
    make_slot(made.relay_dsn, made.relay_slot)
    return made


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[str]:
    """DSN of a migrated server that nobody else writes to."""
    with running_postgres(tmp_path / "postgres") as server:
        migrate(server.dsn)
        make_logins(server.dsn)
        yield server.dsn


def run(settings: Settings) -> Report:
    return asyncio.run(maintain(as_writer(settings.writer_dsn), retention_of(settings)))


def insert(settings: Settings, facts: Sequence[Fact], days_ago: int = 0) -> None:
    """Facts as they were written so many days ago, into the partition of that day if there is one."""
    with psycopg.connect(settings.writer_dsn) as connection:
        age = f"now() AT TIME ZONE 'utc' - interval '{days_ago} days'"
        connection.execute(f"ALTER TABLE outbox ALTER timestamp SET DEFAULT ({age})".encode())
        insert_facts(connection, facts)
        connection.execute("ALTER TABLE outbox ALTER timestamp SET DEFAULT (now() AT TIME ZONE 'utc')")


def make_day(settings: Settings, days_ago: int) -> str:
    with psycopg.connect(settings.writer_dsn) as connection:
        connection.execute("SET ROLE sre_owner")
        row = connection.execute(
            "SELECT 'outbox_' || to_char(day, 'YYYYMMDD'), create_partition('outbox', 'timestamp', day, day + 1, '::timestamp')"
            " FROM (SELECT (now() AT TIME ZONE 'utc')::date - %s::integer AS day) AS past",
            [days_ago],
        ).fetchone()
    assert row is not None
    return str(row[0])


def drop(settings: Settings, table: str) -> None:
    with psycopg.connect(settings.writer_dsn) as connection:
        connection.execute(f"DROP TABLE {table}".encode())


def today() -> str:
    return f"outbox_{datetime.now(UTC):%Y%m%d}"


@pytest.mark.parametrize("relay", ["runs", "is behind"])
def test_facts_that_move_to_a_partition_made_late_are_published_once(kafka: str, settings: Settings, relay: str) -> None:
    drop(settings, today())
    first, second = facts_of(AGGREGATES, [1, 2]), facts_of(AGGREGATES, [3])
    if relay == "runs":
        with relay_in_thread(settings):
            insert(settings, first)
            wait_for_facts(kafka, first)
            assert run(settings).made == [today()]
            insert(settings, second)
            wait_for_facts(kafka, [*first, *second])
    else:
        insert(settings, first)
        assert run(settings).made == [today()]
        insert(settings, second)
        with relay_in_thread(settings):
            wait_for_facts(kafka, [*first, *second])
    with psycopg.connect(settings.writer_dsn) as connection:
        assert connection.execute(b"SELECT count(*) FROM " + today().encode()).fetchone() == (150,)


def test_a_partition_waits_for_a_relay_that_is_behind_and_goes_when_it_has_caught_up(kafka: str, settings: Settings) -> None:
    part = make_day(settings, 9)
    facts = facts_of(AGGREGATES, [1, 2])
    insert(settings, facts, days_ago=9)
    kept = run(settings)
    assert (kept.dropped, kept.left) == ([], [f"{part} was kept: slot {settings.relay_slot} has not confirmed all of it as published"])
    with relay_in_thread(settings):
        wait_for_facts(kafka, facts)
        assert run(settings).dropped == [part]
        more = facts_of(AGGREGATES, [3])
        insert(settings, more)
        wait_for_facts(kafka, [*facts, *more])
    with relay_in_thread(settings):
        insert(settings, facts_of(["last"], [1]))
        wait_for_facts(kafka, [*facts, *more, *facts_of(["last"], [1])])


@pytest.mark.parametrize("way", ["DROP TABLE {}", "ALTER TABLE outbox DETACH PARTITION {}", "TRUNCATE {}"])
def test_what_a_hand_takes_from_a_relay_that_is_behind_is_published_nevertheless(kafka: str, settings: Settings, way: str) -> None:
    """The WAL has it, and its catalogue as it was."""
    facts = facts_of(AGGREGATES, range(1, 5))
    insert(settings, facts)
    with psycopg.connect(settings.writer_dsn, autocommit=True) as connection:
        connection.execute(way.format(today()).encode())
        connection.execute("VACUUM pg_class, pg_attribute, pg_inherits")
    with relay_in_thread(settings):
        wait_for_facts(kafka, facts)


def retained_bytes(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), min(restart_lsn))::bigint FROM pg_replication_slots"
        ).fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def idle_relay(kafka: str, dsn: str) -> Iterator[Settings]:
    settings = settings_for(kafka, dsn)
    make_slot(dsn, settings.relay_slot)
    with relay_in_thread(settings):
        yield settings


def written_bytes(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.usefixtures("topics")
@pytest.mark.parametrize("database", ["postgres", "another"])
def test_an_idle_outbox_keeps_no_wal_of_what_others_write(kafka: str, own_server: str, database: str) -> None:
    with psycopg.connect(own_server, autocommit=True) as admin:
        admin.execute("CREATE DATABASE another")
    with idle_relay(kafka, own_server) as settings:
        before = written_bytes(own_server)
        with psycopg.connect(make_conninfo(own_server, dbname=database), autocommit=True) as other:
            other.execute("CREATE TABLE filler (text text)")
            for _ in range(12):
                other.execute("INSERT INTO filler SELECT repeat(md5(i::text), 30) FROM generate_series(1, 20000) AS i")
            assert written_bytes(own_server) - before > 200 * MIB
        with psycopg.connect(own_server, autocommit=True) as admin:
            admin.execute("CHECKPOINT")
        wait_until(lambda: retained_bytes(own_server) < SEGMENT, "the slot lets go of the WAL of others", seconds=60)
        assert read_facts(kafka) == []
        insert(settings, facts_of(["a"], [1]))
        wait_for_facts(kafka, facts_of(["a"], [1]))


@pytest.mark.usefixtures("topics")
def test_an_idle_server_that_goes_on_to_new_segments_keeps_none(kafka: str, own_server: str) -> None:
    """As one that archives does, every archive_timeout."""
    with idle_relay(kafka, own_server), psycopg.connect(own_server, autocommit=True) as admin:
        for _ in range(6):
            admin.execute("SELECT pg_logical_emit_message(false, 'test', 'something to archive')")
            admin.execute("SELECT pg_switch_wal()")
            admin.execute("CHECKPOINT")
        wait_until(lambda: retained_bytes(own_server) < SEGMENT, "the slot lets go of the finished segments", seconds=60)
