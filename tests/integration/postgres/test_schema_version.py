"""An sre-domain that is older or newer than the database: which of them works, and the one line of which doesn't."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final

import psycopg
import pytest
from typer.testing import CliRunner

from tests.support.pipelines import intake, outcomes
from tests.support.records import Topic, create
from tests.support.roles import as_reader, as_relay, as_writer
from worker.cli.main import app
from worker.domain.aggregate import AGGREGATES
from worker.errors import WorkerError
from worker.postgres.connection import UnitOpener, check_writer
from worker.postgres.migrate import MIGRATIONS, expand, migrate, read_migrations
from worker.postgres.schema_version import SchemaError, check_schema
from worker.postgres.storages import STORAGES
from worker.recovery import process_reliably

if TYPE_CHECKING:
    from pathlib import Path

NEWEST: Final = read_migrations(MIGRATIONS)[-1].name
NEWER: Final = (
    "the database is newer than this sre-domain, which can't work with it since migration 9001_post_taken_away: "
    "run the version that applied it, or a later one"
)
COMMANDS: Final = {
    ("worker",): NEWER,
    ("relay",): NEWER,
    ("relay", "rebuild"): NEWER,
    ("relay", "rebuild", "--dry-run"): NEWER,
    ("sweep",): NEWER,
    ("maintain",): NEWER,
    ("keys", "list"): NEWER,
    ("keys", "revoke", "0123456789abcdef"): NEWER,
    ("migrate",): "the database is newer than this sre-domain, which does not know migration 9000_pre_added",
    ("migrate", "--pre"): "the database is newer than this sre-domain, which does not know migration 9000_pre_added",
}


def apply(database: str, *names: str) -> None:
    """Migrations of a later version, of which only their names can be known."""
    with psycopg.connect(database) as connection:
        for name in names:
            connection.execute("INSERT INTO schema_migration (number, name, checksum) VALUES (%s, %s, 'x')", [int(name[:4]), name])


@pytest.fixture
def environment(database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in [name for name in os.environ if name.startswith("SRE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SRE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("SRE_DATABASE_URL", as_writer(database))
    monkeypatch.setenv("SRE_MIGRATE_DATABASE_URL", database)
    monkeypatch.setenv("SRE_RELAY_DATABASE_URL", as_relay(database))
    monkeypatch.setenv("SRE_QUERY_DATABASE_URL", as_reader(database))
    monkeypatch.setenv("SRE_RELAY_SLOT", database.rpartition("dbname=")[2].split()[0])
    return database


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_refuses_a_database_that_a_newer_version_took_something_away_from(environment: str, command: tuple[str, ...]) -> None:
    apply(environment, "9000_pre_added", "9001_post_taken_away")
    error = CliRunner().invoke(app, command).exception
    assert isinstance(error, WorkerError)
    assert str(error) == COMMANDS[command]


def test_what_a_newer_version_only_added_is_worked_with(environment: str) -> None:
    apply(environment, "9000_pre_added", "9002_pre_added_too")
    for dsn in (as_writer(environment), as_relay(environment), environment):
        with psycopg.connect(dsn) as connection:
            check_schema(connection)
    assert CliRunner().invoke(app, ["keys", "list"]).exit_code == 0


def test_what_is_no_migrations_name_is_not_taken_for_harmless(database: str) -> None:
    apply(database, "9000-by-hand")
    with pytest.raises(SchemaError, match="since migration 9000-by-hand: "):
        check_writer(as_writer(database))


def test_a_migration_of_our_own_that_was_not_applied_is_named(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("DELETE FROM schema_migration WHERE name = %s", [NEWEST])
    with pytest.raises(
        SchemaError, match=f"^the database is older than this sre-domain and lacks migration {NEWEST}: run sre-domain migrate$"
    ):
        check_writer(as_writer(database))


def test_a_database_from_before_versions_could_be_asked_for_is_one_line(environment: str) -> None:
    with psycopg.connect(environment) as connection:
        connection.execute("DROP FUNCTION applied_migrations")
    for command in ("worker", "relay", "sweep"):
        error = CliRunner().invoke(app, [command]).exception
        assert str(error) == "the database was not migrated, or by a version before this one: run sre-domain migrate"


def test_a_schema_that_changed_while_the_worker_ran_costs_no_record_its_outcome(database: str) -> None:
    topic, opener = Topic("sre.slo.intents.v1"), UnitOpener(as_writer(database), STORAGES)
    apply(database, "9001_post_taken_away")
    with pytest.raises(SchemaError):
        asyncio.run(process_reliably([topic.append(create())], intake(database, AGGREGATES["slo"], opener)))
    assert outcomes(database) == {}


def test_an_operation_that_this_version_reads_with_and_is_gone_is_one_line(environment: str) -> None:
    with psycopg.connect(environment) as connection:
        connection.execute("DROP FUNCTION sre_query.get_slo")
    done = CliRunner().invoke(app, ["query", "get-slo", "checkout", "--tenant", "acme"])
    assert done.exit_code == 2
    assert done.stderr.startswith("DATABASE_ERROR: the schema is of another version than this sre-domain: function sre_query.get_slo(")


# --- Expand, roll out, contract


def test_before_the_roll_out_only_what_comes_before_the_first_post_is_applied(database: str, tmp_path: Path) -> None:
    for migration in read_migrations(MIGRATIONS):
        (tmp_path / f"{migration.name}.sql").write_bytes(migration.sql)
    for name in ("9000_pre_a", "9001_post_b", "9002_pre_c", "9003_post_d"):
        (tmp_path / f"{name}.sql").write_text("SELECT 1")
    assert expand(database, tmp_path) == ("9000_pre_a",)
    assert expand(database, tmp_path) == ()
    assert migrate(database, tmp_path) == ("9001_post_b", "9002_pre_c", "9003_post_d")


def test_the_command_says_that_there_is_nothing_to_add(environment: str) -> None:
    assert environment
    said = [CliRunner().invoke(app, ["migrate", *arguments]).stdout.splitlines() for arguments in ((), ("--pre",))]
    assert [lines[0] for lines in said] == ["the schema is up to date", "nothing is to be added before the roll-out"]
