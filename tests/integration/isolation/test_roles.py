"""The roles: which of them a worker runs under, and who may migrate, anew and from a database that was there before them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from tests.support.pipelines import intake, outcomes
from tests.support.records import Topic, create
from tests.support.roles import as_relay, as_writer
from worker.devstack.logins import login, make_logins
from worker.devstack.postgres import running_postgres
from worker.domain.aggregate import AGGREGATES
from worker.package_data import SQL as SQL_FILES
from worker.postgres.connection import UnitOpener, WriterRoleError, check_writer
from worker.postgres.migrate import MIGRATIONS, MigrationError, migrate, read_migrations
from worker.postgres.storages import STORAGES
from worker.recovery import process_reliably

if TYPE_CHECKING:
    from collections.abc import Iterator

OWNERS = """
SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
UNION SELECT DISTINCT proowner::regrole::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'sre_query'
UNION SELECT pubowner::regrole::text FROM pg_publication
UNION SELECT typowner::regrole::text FROM pg_type WHERE typnamespace = 'sre_query'::regnamespace
"""


@contextmanager
def a_login(superuser: str, *roles: str, attributes: str = "") -> Iterator[str]:
    """The database under a login of its own."""
    name = f"login_{uuid4().hex}"
    with psycopg.connect(superuser, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'dev' {attributes}".encode())
        try:
            for role in roles:
                admin.execute(SQL("GRANT {} TO {}").format(Identifier(role), Identifier(name)))
            yield login(superuser, name)
        finally:
            admin.execute(SQL("DROP OWNED BY {} CASCADE").format(Identifier(name)))
            admin.execute(SQL("DROP ROLE {}").format(Identifier(name)))


@contextmanager
def a_database(server: str, owner: str) -> Iterator[str]:
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(SQL("CREATE DATABASE {} OWNER {}").format(Identifier(name), Identifier(owner)))
        try:
            yield make_conninfo(server, dbname=name)
        finally:
            admin.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


def user_of(dsn: str) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(dsn)["user"])


# --- The worker's


@pytest.mark.parametrize(
    ("roles", "attributes", "why"),
    [
        (("sre_writer",), "SUPERUSER", "is a superuser, or may become one"),
        (("sre_writer",), "BYPASSRLS", "has BYPASSRLS, or may become a role that has"),
        (("sre_writer", "sre_relay"), "", "has BYPASSRLS, or may become a role that has"),
        (("sre_writer", "sre_relay"), "NOINHERIT", "has BYPASSRLS, or may become a role that has"),
        (("sre_writer", "sre_owner"), "", "owns the tables, or may become their owner"),
        ((), "", "is no member of sre_writer"),
        (("sre_reader",), "", "is no member of sre_writer"),
        (("sre_writer",), "NOINHERIT", "is no member of sre_writer"),
    ],
)
def test_a_worker_under_a_role_that_no_policy_binds_is_refused(database: str, roles: tuple[str, ...], attributes: str, why: str) -> None:
    with a_login(database, *roles, attributes=attributes) as dsn:
        with pytest.raises(WriterRoleError) as refusal:
            check_writer(dsn)
        assert str(refusal.value) == (
            f"SRE_DATABASE_URL: role {user_of(dsn)} {why}; the worker runs as a member of sre_writer and of no other role"
        )


def test_a_role_that_is_hidden_behind_another_is_found(database: str) -> None:
    with a_login(database, "sre_writer", attributes="SUPERUSER") as dsn, pytest.raises(WriterRoleError, match="is a superuser"):
        check_writer(make_conninfo(dsn, options="-c role=sre_writer"))


def test_a_writer_passes(database: str) -> None:
    check_writer(as_writer(database))


def test_the_command_ends_with_one_line_before_it_takes_anything(database: str) -> None:
    environment = {"SRE_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "SRE_DATABASE_URL": as_relay(database)}
    done = subprocess.run(
        [sys.executable, "-m", "worker", "worker"],
        env={**os.environ, **environment, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "sre-domain: SRE_DATABASE_URL: role sre_relay_dev has BYPASSRLS, or may become a role that has; "
        "the worker runs as a member of sre_writer and of no other role"
    )
    assert "Traceback" not in done.stderr


def test_a_role_that_is_wrong_when_a_connection_is_made_costs_no_record_its_outcome(database: str) -> None:
    """PostgreSQL was away when the worker began, or the role was changed since."""
    topic = Topic("sre.slo.intents.v1")
    opener = UnitOpener(database, STORAGES)
    with pytest.raises(WriterRoleError, match="is a superuser"):
        asyncio.run(process_reliably([topic.append(create())], intake(database, AGGREGATES["slo"], opener)))
    assert outcomes(database) == {}


# --- Migrations


def test_a_member_of_the_owner_migrates_and_owns_nothing_itself(server: str, template: str) -> None:  # noqa: ARG001 - the roles are there
    with a_database(server, "sre_owner") as dsn, a_login(dsn, "sre_owner") as migrator:
        names = tuple(migration.name for migration in read_migrations(MIGRATIONS))
        assert migrate(migrator) == names
        assert migrate(migrator) == ()
        assert owners(dsn) == {"sre_owner"}


def test_a_database_that_was_there_before_the_roles_is_handed_over(server: str, template: str) -> None:  # noqa: ARG001 - the roles are there
    with a_login(server) as earlier, a_database(server, user_of(earlier)) as dsn:
        old = make_conninfo(earlier, dbname=psycopg.conninfo.conninfo_to_dict(dsn)["dbname"])
        migrate_as_before_there_were_roles(old)
        assert owners(dsn) == {user_of(earlier)}
        migrate(dsn)
        assert owners(dsn) == {"sre_owner"}
        with psycopg.connect(dsn) as connection:
            kept = connection.execute(
                "SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE relname LIKE 'outbox%' AND relkind = 'r'"
            )
            assert set(kept.fetchall()) == {(True,)}
            assert connection.execute("SELECT count(*) FROM slo").fetchone() == (1,)


def migrate_as_before_there_were_roles(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE schema_migration (number integer PRIMARY KEY, name text, checksum text, applied_at timestamptz)")
        for migration in read_migrations(MIGRATIONS)[:7]:
            connection.execute(migration.sql)
            connection.execute("INSERT INTO schema_migration VALUES (%s, %s, %s)", [migration.number, migration.name, migration.checksum])
        connection.execute("SELECT create_partitions(now(), 3)")
        connection.execute(
            "INSERT INTO slo VALUES ('acme', 'a', 1, now(), now(), '', '', '', '', 99, '7d', '', '', 'occurrences', NULL, NULL, 'no_data',"
            " 100, 0, NULL, NULL, 0, 0, 0, 0, 0)"
        )


def owners(dsn: str) -> set[str]:
    with psycopg.connect(dsn) as connection:
        return {name for (name,) in connection.execute(OWNERS).fetchall()}


def test_without_a_superuser_the_roles_are_made_by_hand(tmp_path: Path) -> None:
    """On a server that has none of them: what the migration says, and that it is enough."""
    with running_postgres(tmp_path) as server:
        with psycopg.connect(server.dsn, autocommit=True) as admin:
            admin.execute("CREATE ROLE migrator LOGIN")
            admin.execute("CREATE DATABASE sre OWNER migrator")
        dsn = make_conninfo(server.dsn, dbname="sre")
        migrator = make_conninfo(dsn, user="migrator")
        with pytest.raises(MigrationError) as refusal:
            migrate(migrator)
        assert str(refusal.value) == (
            "the roles are not as they must be (permission denied to create role): "
            "have a superuser run roles.sql in this database, and migrate as a member of sre_owner"
        )
        for _ in range(2):
            with psycopg.connect(dsn) as admin:
                admin.execute((SQL_FILES / "roles.sql").read_bytes())
        with pytest.raises(MigrationError, match=r"^the roles are not .* \(permission denied.*\): have a superuser run roles.sql in this"):
            migrate(migrator)
        with psycopg.connect(dsn) as admin:
            admin.execute("GRANT sre_owner TO migrator")
        migrate(migrator)
        make_logins(dsn)
        make_logins(dsn)
        check_writer(as_writer(dsn))
