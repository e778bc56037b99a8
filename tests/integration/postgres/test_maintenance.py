"""Retention on a real PostgreSQL: what is made, what goes, what stays whatever the clock, and who waits for it."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from tests.support.roles import as_writer
from worker.devstack.logins import make_logins
from worker.devstack.postgres import running_postgres
from worker.postgres.maintenance import MaintenanceError, Report, Retention, maintain
from worker.postgres.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
OUTBOX_ROW = (
    "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, timestamp, topic, partition, tenant_id, ce_time)"
    " SELECT gen_random_uuid(), 'slo', 'a', 't', '', %s AT TIME ZONE 'utc', 'topic', 0, '', '' FROM generate_series(1, %s)"
)
INBOX_ROW = (
    'INSERT INTO inbox (tenant_id, intent_key, intent_id, ce_time, content_hash, topic, partition, "offset", outcome, decided_at)'
    " SELECT 'acme', gen_random_uuid(), 'a', %s, '', 'topic', 0, 0, 'no_change', %s FROM generate_series(1, %s)"
)


@pytest.fixture
def slot(database: str) -> str:
    name = f"slot_{uuid4().hex}"
    with psycopg.connect(database) as connection:
        connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [name])
    return name


def run(database: str, slot: str, now: datetime | None = None, inbox_days: int = 30, outbox_days: int = 7) -> Report:
    return run_as(as_writer(database), slot, now, inbox_days, outbox_days)


def run_as(dsn: str, slot: str, now: datetime | None = None, inbox_days: int = 30, outbox_days: int = 7) -> Report:
    return asyncio.run(maintain(dsn, Retention(inbox_days=inbox_days, outbox_days=outbox_days, slot=slot), now))


@contextmanager
def confirming(database: str, *slots: str) -> Iterator[None]:
    """Stands in for a relay that is never behind for long."""
    done = Event()

    def confirm() -> None:
        with psycopg.connect(database, autocommit=True) as connection:
            while not done.wait(0.01):
                for slot in slots:
                    connection.execute("SELECT pg_replication_slot_advance(%s, pg_current_wal_flush_lsn())", [slot])

    thread = Thread(target=confirm)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(10)


def query(database: str, statement: str, *parameters: object) -> list[Any]:
    with psycopg.connect(database) as connection:
        return connection.execute(statement.encode(), parameters).fetchall()


def execute(database: str, statement: str, *parameters: object) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(statement.encode(), parameters)


def execute_as_owner(database: str, statement: str, *parameters: object) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("SET ROLE sre_owner")
        connection.execute(statement.encode(), parameters)


def partitions(database: str, parent: str) -> list[str]:
    return [name for (name,) in query(database, "SELECT part FROM partition_ranges(%s) ORDER BY first", parent)]


def count(database: str, table: str) -> int:
    return int(query(database, f"SELECT count(*) FROM {table}")[0][0])  # noqa: S608


def wait_for_maintenance(database: str, statement: str) -> int:
    """The process of the server that executes this step of a run."""
    working = "SELECT pid FROM pg_stat_activity WHERE application_name = 'sre-domain maintenance' AND query ~ %s AND wait_event = 'PgSleep'"
    deadline = time.monotonic() + 10
    while not (found := query(database, working, f"SELECT {statement}")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return int(found[0][0])


def make_outbox_day(database: str, days_ago: int, rows: int = 0) -> str:
    day = TODAY - timedelta(days=days_ago)
    execute_as_owner(database, "SELECT create_partition('outbox', 'timestamp', %s::date, %s::date + 1, '::timestamp')", day, day)
    execute(database, OUTBOX_ROW, day + timedelta(hours=1), rows)
    return f"outbox_{day:%Y%m%d}"


def make_inbox_week(database: str, holding: datetime) -> str:
    first = (holding - timedelta(days=holding.weekday())).date()
    statement = "SELECT create_partition('inbox', 'ce_time', %s::date, %s::date + 7, '::timestamp AT TIME ZONE ''utc''')"
    execute_as_owner(database, statement, first, first)
    return f"inbox_{first:%Y%m%d}"


# Making


def test_partitions_are_made_for_the_coming_week_and_for_every_intent_that_is_not_expired(database: str, slot: str) -> None:
    for parent in ("outbox", "inbox"):
        for part in partitions(database, parent):
            execute(database, f"DROP TABLE {part}")
    report = run(database, slot)
    assert report.left == []
    assert partitions(database, "outbox") == [f"outbox_{TODAY + timedelta(days=days):%Y%m%d}" for days in range(8)]
    bounds = query(database, "SELECT min(first), max(past) FROM partition_ranges('inbox')")[0]
    assert bounds[0] <= (TODAY - timedelta(days=30)).replace(tzinfo=None)
    assert bounds[1] > (TODAY + timedelta(days=7)).replace(tzinfo=None)
    assert run(database, slot) == Report()


def test_without_partitions_everything_is_taken_and_moves_when_they_are_made(database: str, slot: str) -> None:
    for parent in ("outbox", "inbox"):
        for part in partitions(database, parent):
            execute(database, f"DROP TABLE {part}")
    now = datetime.now(UTC)
    execute(database, OUTBOX_ROW, now, 5)
    execute(database, INBOX_ROW, now, now, 5)
    execute(database, INBOX_ROW, now - timedelta(days=29), now, 5)
    assert run(database, slot).left == []
    assert (count(database, "outbox"), count(database, "outbox_default")) == (5, 0)
    assert (count(database, "inbox"), count(database, "inbox_default")) == (10, 0)


def test_a_crowd_in_the_default_partition_is_left_there(database: str, slot: str) -> None:
    part = f"outbox_{TODAY + timedelta(days=7):%Y%m%d}"
    execute(database, f"DROP TABLE {part}")
    execute(database, OUTBOX_ROW, TODAY + timedelta(days=7), 50_001)
    assert run(database, slot).left == [
        f"{part} was not made: outbox_default holds too many rows of {part} to move them while workers wait"
    ]
    assert count(database, "outbox") == 50_001


def test_what_a_hand_has_made_is_respected_and_told(database: str, slot: str) -> None:
    """A partition with bounds of its own, one that was detached, and one without end."""
    days = [TODAY + timedelta(days=days) for days in range(5, 8)]
    names = [f"outbox_{day:%Y%m%d}" for day in days]
    for name in names[1:]:
        execute(database, f"DROP TABLE {name}")
    execute(database, f"ALTER TABLE outbox DETACH PARTITION {names[0]}")
    execute_as_owner(database, f"CREATE TABLE by_hand PARTITION OF outbox FOR VALUES FROM ('{days[1]:%Y-%m-%d}') TO (MAXVALUE)")
    execute_as_owner(database, "CREATE TABLE long_ago PARTITION OF outbox FOR VALUES FROM (MINVALUE) TO ('2001-01-01')")
    with confirming(database, slot):
        report = run(database, slot)
    assert report.left == [f"{names[0]} was not made: a table {names[0]} is there that is no partition of outbox"]
    assert report.dropped == ["long_ago"]
    assert "by_hand" in partitions(database, "outbox")


# Dropping


def test_the_outbox_goes_by_day_after_its_retention(database: str, slot: str) -> None:
    gone, kept = [make_outbox_day(database, days, rows=3) for days in (9, 8)], make_outbox_day(database, 7, rows=3)
    with confirming(database, slot):
        report = run(database, slot)
    assert (report.dropped, report.left) == (gone, [])
    assert partitions(database, "outbox")[0] == kept
    assert count(database, "outbox") == 3


def test_nothing_goes_that_the_slot_has_not_confirmed(database: str, slot: str) -> None:
    first = make_outbox_day(database, 9, rows=3)
    make_outbox_day(database, 8, rows=3)
    assert run(database, slot).left == [f"{first} was kept: slot {slot} has not confirmed all of it as published"]
    assert count(database, "outbox") == 6
    with confirming(database, slot):
        assert len(run(database, slot).dropped) == 2


def test_a_row_committed_at_the_last_moment_holds_its_partition(database: str, slot: str) -> None:
    """The slot was up to date when the run began; the row's transaction was open then."""
    part = make_outbox_day(database, 9)
    with psycopg.connect(database) as writer:
        writer.execute(OUTBOX_ROW, [TODAY - timedelta(days=9), 1])
        with confirming(database, slot):
            assert any("outbox is in use" in line for line in run(database, slot).left)
        writer.commit()
    assert run(database, slot).left == [f"{part} was kept: slot {slot} has not confirmed all of it as published"]
    assert count(database, part) == 1


def test_while_a_slot_is_asked_nobody_writes_to_its_partition_and_everybody_to_the_others(database: str, slot: str) -> None:
    part = make_outbox_day(database, 9, rows=1)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(run, database, slot)
        wait_for_maintenance(database, "drop_expired_partition")
        with psycopg.connect(database) as writer:
            writer.execute("SET lock_timeout = '50ms'")
            writer.execute(OUTBOX_ROW, [datetime.now(UTC), 1])
            writer.commit()
            with pytest.raises(psycopg.errors.LockNotAvailable):
                writer.execute(OUTBOX_ROW, [TODAY - timedelta(days=9), 1])
        assert running.result(10).left == [f"{part} was kept: slot {slot} has not confirmed all of it as published"]


@pytest.mark.parametrize("also", ["no slot", "a second slot that is behind"])
def test_without_one_account_of_what_is_published_everything_stays(database: str, slot: str, also: str) -> None:
    part = make_outbox_day(database, 9, rows=1)
    execute(database, OUTBOX_ROW, TODAY - timedelta(days=30), 4)
    if also == "no slot":
        expected = "this database has no slot another"
    else:
        other = f"slot_{uuid4().hex}"
        query(database, "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", other)
        execute(database, OUTBOX_ROW, TODAY, 1)
        expected = f"slot {other} has not confirmed all of it as published"
    with confirming(database, slot):
        report = run(database, "another" if also == "no slot" else slot)
    assert report.left == [f"{part} was kept: {expected}", f"outbox_default keeps rows past their retention: {expected}"]
    assert report.dropped == []
    assert count(database, "outbox_default") == 4


def test_with_a_lost_slot_everything_stays(tmp_path: Path) -> None:
    with running_postgres(tmp_path) as server:
        migrate(server.dsn)
        make_logins(server.dsn)
        query(server.dsn, "SELECT pg_create_logical_replication_slot('slot', 'pgoutput')")
        part = make_outbox_day(server.dsn, 9, rows=1)
        with psycopg.connect(server.dsn, autocommit=True) as admin:
            admin.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
            admin.execute("SELECT pg_reload_conf()")
            for _ in range(3):
                admin.execute("SELECT pg_switch_wal()")
                admin.execute("SELECT pg_logical_emit_message(true, 'test', 'into the next segment')")
            admin.execute("CHECKPOINT")
        deadline = time.monotonic() + 10
        while query(server.dsn, "SELECT wal_status FROM pg_replication_slots") != [("lost",)]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert run(server.dsn, "slot").left == [f"{part} was kept: slot slot is lost"]


def test_rows_past_their_retention_leave_the_default_partitions(database: str, slot: str) -> None:
    execute(database, OUTBOX_ROW, TODAY - timedelta(days=9), 10_001)
    execute(database, OUTBOX_ROW, TODAY - timedelta(days=6), 2)
    old, lately = TODAY - timedelta(days=60), TODAY - timedelta(days=7)
    execute(database, INBOX_ROW, old, old, 4)
    execute(database, INBOX_ROW, old, lately, 1)
    with confirming(database, slot):
        assert run(database, slot).deleted_rows == 10_005
    assert (count(database, "outbox"), count(database, "inbox")) == (2, 1)


def test_a_clock_that_runs_ahead_drops_nothing(database: str, slot: str) -> None:
    now = datetime.now(UTC)
    execute(database, OUTBOX_ROW, now, 3)
    execute(database, INBOX_ROW, now, now, 3)
    before = partitions(database, "outbox") + partitions(database, "inbox")
    with confirming(database, slot):
        assert run(database, slot, now + timedelta(days=3650), inbox_days=1, outbox_days=1).deleted_rows == 0
    kept = partitions(database, "outbox") + partitions(database, "inbox")
    assert {part for part in before if part not in kept} <= {part for part in before if part < f"inbox_{now - timedelta(days=9):%Y%m%d}"}
    assert (count(database, "outbox"), count(database, "inbox")) == (3, 3)


def test_a_clock_that_is_behind_keeps_more(database: str, slot: str) -> None:
    make_outbox_day(database, 9)
    with confirming(database, slot):
        assert run(database, slot, datetime.now(UTC) - timedelta(days=10)).dropped == []


def test_partitions_of_a_far_future_stay(database: str, slot: str) -> None:
    future = datetime(2100, 1, 6, tzinfo=UTC)
    part = make_inbox_week(database, future)
    execute(database, INBOX_ROW, future, TODAY, 1)
    execute(database, INBOX_ROW, datetime(9999, 1, 1, tzinfo=UTC), TODAY, 1)
    assert run(database, slot).left == []
    assert part in partitions(database, "inbox")
    assert count(database, "inbox") == 2


# At once, in the middle, and behind a lock


def test_two_at_once_are_one(database: str, slot: str) -> None:
    for days in range(9, 20):
        make_outbox_day(database, days, rows=100)
    with confirming(database, slot), ThreadPoolExecutor() as pool:
        reports = [future.result() for future in [pool.submit(run, database, slot) for _ in range(4)]]
    assert sorted(part for report in reports for part in report.dropped) == [
        f"outbox_{TODAY - timedelta(days=days):%Y%m%d}" for days in range(19, 8, -1)
    ]
    assert [report.left for report in reports] == [[]] * 4


def test_one_leaves_the_work_to_another_that_is_at_it(database: str, slot: str) -> None:
    with psycopg.connect(database, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(hashtextextended('sre_domain.maintenance', 0))")
        assert run(database, slot) == Report(at_work=True)
    assert not run(database, slot).at_work


def test_one_that_is_killed_in_the_middle_leaves_whole_steps(database: str, slot: str) -> None:
    parts = [make_outbox_day(database, days, rows=3) for days in (10, 9)]
    with ThreadPoolExecutor() as pool:
        running = pool.submit(run, database, slot)  # waits for a slot that nobody confirms
        query(database, "SELECT pg_terminate_backend(%s)", wait_for_maintenance(database, "drop_expired_partition"))
        with pytest.raises(MaintenanceError, match="can't be maintained"):
            running.result(10)
    assert partitions(database, "outbox")[:2] == parts
    assert count(database, "outbox") == 6
    with confirming(database, slot):
        assert run(database, slot).dropped == parts


@pytest.mark.parametrize("table", ["outbox", "inbox"])
def test_behind_a_long_transaction_nobody_else_waits_for_long(database: str, slot: str, table: str) -> None:
    make_outbox_day(database, 9)
    make_inbox_week(database, TODAY - timedelta(days=60))
    waits: list[float] = []
    done = Event()

    def write() -> None:
        with psycopg.connect(database, autocommit=True) as worker:
            while not done.wait(0.005):
                started = time.monotonic()
                worker.execute(OUTBOX_ROW, [datetime.now(UTC), 1])
                worker.execute(INBOX_ROW, [datetime.now(UTC), datetime.now(UTC), 1])
                worker.execute("SELECT count(*) FROM inbox WHERE ce_time > now() - interval '1 day'")
                waits.append(time.monotonic() - started)

    with psycopg.connect(database) as reader, confirming(database, slot), ThreadPoolExecutor() as pool:
        reader.execute(SQL("SELECT count(*) FROM {}").format(Identifier(table)))  # and its transaction stays open
        writing = pool.submit(write)
        report = run(database, slot)
        done.set()
        writing.result(10)
        assert report.left == [f"{table} is in use, the next run tries again: canceling statement due to lock timeout"]
        assert 0.3 < max(waits) < 5
        reader.rollback()
        assert run(database, slot).left == []


# Who may


def test_a_role_that_owns_nothing_maintains_once_it_may_execute(database: str, slot: str) -> None:
    role = f"role_{uuid4().hex}"
    execute(database, f"CREATE ROLE {role} LOGIN PASSWORD 'test'")
    execute(database, f"GRANT USAGE ON SCHEMA public TO {role}")
    try:
        dsn = make_conninfo(database, user=role, password="test")  # noqa: S106 - of a role of this test
        with pytest.raises(
            MaintenanceError, match=r"^this role may not maintain the database: run sre-domain maintain as the schema's owner$"
        ):
            run_as(dsn, slot)
        execute(database, f"GRANT sre_writer TO {role}")
        gone = make_outbox_day(database, 9, rows=1)
        execute(database, f"DROP TABLE outbox_{TODAY:%Y%m%d}")
        with confirming(database, slot):
            report = run_as(dsn, slot)
        assert (report.dropped, report.made, report.left) == ([gone], [f"outbox_{TODAY:%Y%m%d}"], [])
        with psycopg.connect(dsn) as connection, pytest.raises(psycopg.errors.InvalidParameterValue):
            connection.execute("SELECT drop_expired_partition('slo', 'slo', now(), 1, 'slot')")
        with psycopg.connect(dsn) as connection, pytest.raises(psycopg.errors.InvalidParameterValue):
            connection.execute("SELECT drop_expired_partition('outbox', %s, now(), -100, 'slot')", [f"outbox_{TODAY:%Y%m%d}"])
    finally:
        execute(database, f"DROP OWNED BY {role}")
        execute(database, f"DROP ROLE {role}")


def test_a_database_that_was_not_migrated_is_one_line(server: str) -> None:
    with pytest.raises(MaintenanceError, match=r"^the database was not migrated, .*: run sre-domain migrate$"):
        run(server, "slot")
    with pytest.raises(MaintenanceError, match=r"^the database can't be maintained: .*refused"):
        run("postgresql://127.0.0.1:1/nothing", "slot")
