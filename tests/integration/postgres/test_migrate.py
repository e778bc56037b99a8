"""The migration runner on a real PostgreSQL, with migrations of the test's own and with the project's."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest
from typer.testing import CliRunner

from tests.support.databases import own_database
from worker.cli.main import app
from worker.postgres.migrate import MIGRATIONS, MigrationError, migrate, read_migrations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PARTITIONS = "CREATE FUNCTION create_partitions(as_of timestamptz, days_ahead integer) RETURNS void LANGUAGE sql AS ''"


@pytest.fixture
def blank(server: str) -> Iterator[str]:
    """DSN of a database without a schema."""
    with own_database(server) as dsn:
        yield dsn


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "0001_pre_first.sql").write_text(f"{PARTITIONS}; CREATE TABLE first AS SELECT 1 AS id;")
    (tmp_path / "0002_post_second.sql").write_text("CREATE TABLE second (id integer); ALTER TABLE first ADD COLUMN added text;")
    return tmp_path


def rows(dsn: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()


def tables(dsn: str) -> set[object]:
    return {name for (name,) in rows(dsn, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


def test_migrations_are_applied_in_order_and_recorded_with_their_checksums(blank: str, directory: Path) -> None:
    assert migrate(blank, directory) == ("0001_pre_first", "0002_post_second")
    assert tables(blank) == {"first", "second", "schema_migration"}
    assert rows(blank, "SELECT number, name, checksum FROM schema_migration ORDER BY number") == [
        (number, name, hashlib.sha256((directory / f"{name}.sql").read_bytes()).hexdigest())
        for number, name in ((1, "0001_pre_first"), (2, "0002_post_second"))
    ]


def test_a_rerun_does_nothing(blank: str, directory: Path) -> None:
    migrate(blank, directory)
    before = rows(blank, "SELECT * FROM schema_migration")
    assert migrate(blank, directory) == ()
    assert rows(blank, "SELECT * FROM schema_migration") == before
    assert rows(blank, "SELECT id FROM first") == [(1,)]


def test_only_what_is_new_is_applied(blank: str, directory: Path) -> None:
    migrate(blank, directory)
    (directory / "0003_pre_third.sql").write_text("CREATE TABLE third ()")
    assert migrate(blank, directory) == ("0003_pre_third",)


def test_two_at_once_apply_each_migration_once(blank: str, directory: Path) -> None:
    (directory / "0001_pre_first.sql").write_text(f"SELECT pg_sleep(0.3); CREATE TABLE first (id integer); {PARTITIONS}")
    with ThreadPoolExecutor() as pool:
        both = [future.result() for future in [pool.submit(migrate, blank, directory) for _ in range(2)]]
    assert sorted(both) == [(), ("0001_pre_first", "0002_post_second")]


def test_one_waits_while_another_has_the_lock(blank: str, directory: Path) -> None:
    with psycopg.connect(blank, autocommit=True) as other, ThreadPoolExecutor() as pool:
        other.execute("SELECT pg_advisory_lock(hashtextextended('sre_domain.migrate', 0))")
        waiting = pool.submit(migrate, blank, directory)
        waiters = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        deadline = time.monotonic() + 10
        while rows(blank, waiters) == [(0,)]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert tables(blank) == set()
        other.execute("SELECT pg_advisory_unlock_all()")
        assert waiting.result(20) == ("0001_pre_first", "0002_post_second")


def test_a_file_changed_after_it_was_applied_is_refused_and_nothing_is_applied(blank: str, directory: Path) -> None:
    migrate(blank, directory)
    (directory / "0001_pre_first.sql").write_text("SELECT 'another'")
    (directory / "0003_pre_third.sql").write_text("CREATE TABLE third ()")
    with pytest.raises(MigrationError, match=r"^migration 0001_pre_first was changed after it was applied"):
        migrate(blank, directory)
    assert "third" not in tables(blank)


def test_a_database_newer_than_the_files_is_refused(blank: str, directory: Path) -> None:
    migrate(blank, directory)
    (directory / "0002_post_second.sql").unlink()
    with pytest.raises(MigrationError, match=r"^the database is newer than this .* not know migration 0002_post_second$"):
        migrate(blank, directory)


def test_a_failing_migration_rolls_back_itself_alone_and_can_be_mended(blank: str, directory: Path) -> None:
    (directory / "0002_post_second.sql").write_text("CREATE TABLE second (id integer);\nSELECT 1 / 0;")
    with pytest.raises(MigrationError, match=r"^migration 0002_post_second failed and was rolled back: division by zero$"):
        migrate(blank, directory)
    assert tables(blank) == {"first", "schema_migration"}
    assert rows(blank, "SELECT number FROM schema_migration") == [(1,)]
    (directory / "0002_post_second.sql").write_text("CREATE TABLE second (id integer)")
    assert migrate(blank, directory) == ("0002_post_second",)


def test_a_number_below_one_that_was_applied_is_refused(blank: str, directory: Path) -> None:
    migrate(blank, directory)
    (directory / "0003_pre_third.sql").write_text("SELECT 3")
    (directory / "0005_pre_fifth.sql").write_text("SELECT 5")
    migrate(blank, directory)
    (directory / "0004_pre_fourth.sql").write_text("SELECT 4")
    with pytest.raises(MigrationError, match=r"^migration 0004_pre_fourth comes before 0005_pre_fifth, which was applied already$"):
        migrate(blank, directory)


@pytest.mark.parametrize("name", ["0003_third.sql", "3_pre_third.sql", "0003_pre_.sql", "0003_pre_Third.sql"])
def test_a_file_that_is_not_named_as_a_migration_is_refused(directory: Path, name: str) -> None:
    (directory / name).touch()
    with pytest.raises(MigrationError, match=f"^{name} is not named"):
        read_migrations(directory)


def test_a_number_used_twice_is_refused(directory: Path) -> None:
    (directory / "0002_pre_other.sql").touch()
    with pytest.raises(MigrationError, match=r"^0002_post_second and 0002_pre_other have the same number$"):
        read_migrations(directory)


def test_a_database_out_of_reach_is_one_line(directory: Path) -> None:
    with pytest.raises(MigrationError, match=r"^cannot migrate the database: .*refused") as failure:
        migrate("postgresql://127.0.0.1:1/nothing", directory)
    assert "\n" not in str(failure.value)


def test_the_projects_migrations_make_the_partitions_of_the_coming_week(database: str) -> None:
    assert len(rows(database, "SELECT 1 FROM pg_inherits WHERE inhparent = 'outbox'::regclass")) == 1 + 8
    assert [migration.name for migration in read_migrations(MIGRATIONS)] == [
        name for (name,) in rows(database, "SELECT name FROM schema_migration ORDER BY number")
    ]


def test_the_command_says_what_it_applied_and_makes_the_slot(blank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slot = f"slot_{uuid4().hex}"
    monkeypatch.setenv("SRE_DATABASE_URL", "postgresql://127.0.0.1:1/nothing")
    monkeypatch.setenv("SRE_MIGRATE_DATABASE_URL", blank)
    monkeypatch.setenv("SRE_RELAY_DATABASE_URL", blank)
    monkeypatch.setenv("SRE_RELAY_SLOT", slot)
    first, second = (CliRunner().invoke(app, ["migrate"]) for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 0)
    applied = [f"applied {migration.name}" for migration in read_migrations(MIGRATIONS)]
    assert first.stdout.splitlines() == [*applied, f"made replication slot {slot}"]
    assert second.stdout.splitlines() == ["the schema is up to date"]
    assert rows(blank, "SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database()") == [(slot,)]


def test_partitions_that_come_late_take_over_what_the_default_one_caught(database: str) -> None:
    """Migrate had not been run for longer than partitions were made ahead."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, timestamp, topic, partition, tenant_id, ce_time)"
            " SELECT gen_random_uuid(), 'slo', 'a', 't', '', now() AT TIME ZONE 'utc' + interval '9 days', 'topic', 0, '', ''"
        )
        connection.execute(
            'INSERT INTO inbox (tenant_id, intent_key, intent_id, ce_time, content_hash, topic, partition, "offset", outcome)'
            " SELECT 'acme', gen_random_uuid(), 'a', now() + interval '30 days', '', 'topic', 0, 0, 'no_change'"
        )
        connection.execute("SELECT create_partitions(now() + interval '9 days', 21)")
        connection.execute("SELECT create_partitions(now() + interval '9 days', 21)")
        for table in ("outbox", "inbox"):
            whole = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
            left = connection.execute(f"SELECT count(*) FROM {table}_default").fetchone()  # noqa: S608
            assert (whole, left) == ((1,), (0,))
