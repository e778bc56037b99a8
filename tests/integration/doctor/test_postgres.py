"""The doctor on a real PostgreSQL: each line that it can say is seen on a set-up that was broken for it."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from tests.support.roles import as_relay, as_writer
from worker.devstack.logins import login
from worker.devstack.postgres import running_postgres, start_postgres, stop_postgres
from worker.doctor import clocks, replication, roles, surroundings
from worker.doctor import database as schema
from worker.postgres.migrate import MIGRATIONS, read_migrations
from worker.relay import replication as streaming
from worker.relay.slot import ensure_slot
from worker.signatures import Signer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.doctor.conftest import Ask

    Change = Callable[..., None]
    Setting = Callable[[str, str | None], None]

NEWEST = read_migrations(MIGRATIONS)[-1].name


@pytest.fixture
def streamed(database: str, slot: str) -> Iterator[str]:
    """A relay's slot, with a connection that streams from it."""
    ensure_slot(database, slot)
    with closing(streaming.start(streaming.connect(database), slot)):
        yield slot


@pytest.fixture
def a_role(database: str) -> Iterator[Callable[[str], str]]:
    """Makes a login with these attributes and memberships and gives its URL."""
    made: list[str] = []

    def make(rest: str) -> str:
        made.append(f"login_{uuid4().hex}")
        with psycopg.connect(database, autocommit=True) as admin:
            admin.execute(f"CREATE ROLE {made[-1]} LOGIN PASSWORD 'dev' {rest}".encode())
        return login(database, made[-1])

    yield make
    with psycopg.connect(database, autocommit=True) as admin:
        for name in made:
            admin.execute(SQL("DROP OWNED BY {0} CASCADE; DROP ROLE {0}").format(Identifier(name)))


def name_of(dsn: str) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(dsn)["user"])


# --- The server and the schema


def test_a_set_up_in_order_is_called_so(ask: Ask, streamed: str) -> None:
    expected = {
        "roles": roles.ROLES_THERE.of(),
        "login of the worker": roles.WRITER_FITS.of(login="sre_writer_dev"),
        "login of the relay": roles.RELAY_FITS.of(login="sre_relay_dev"),
        "login of readers": roles.READER_FITS.of(login="sre_reader_dev"),
        "login of migrations": roles.OWNER_FITS.of(login="postgres"),
        "migrations": schema.MIGRATED.of(count=len(read_migrations(MIGRATIONS)), name=NEWEST),
        "partitions": schema.PARTITIONED.of(days=7),
        "publication": replication.PUBLISHED.of(),
        "slot": replication.STREAMED.of(slot=streamed, retained=0),
        "signatures": surroundings.UNSIGNED.of(),
        "clock and PostgreSQL": None,
    }
    for name, finding in expected.items():
        found = ask(name)
        assert len(found) == 1, found
        assert found == [finding] if finding is not None else found[0].status == "ok"
    for name, line in (("database", schema.REACHED), ("row security", schema.CLOSED)):
        assert [finding.what.split()[-1] for finding in ask(name)] == [line.what.split()[-1]]


def test_a_server_out_of_reach_is_named_with_the_reason_and_without_a_password(ask: Ask, setting: Setting) -> None:
    setting("SRE_DATABASE_URL", "postgresql://worker:TOPSECRET@127.0.0.1:1/nothing")
    (finding,) = ask("database")
    assert finding.do == schema.OUT_OF_REACH.do
    assert "refused" in finding.what
    assert "TOPSECRET" not in finding.what


def test_a_server_that_is_too_old_or_keeps_too_little_wal_is_named(
    ask: Ask, slot: str, setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert slot
    server = start_postgres(tmp_path, changes={"wal_level": "replica", "max_slot_wal_keep_size": "64MB"})
    try:
        setting("SRE_DATABASE_URL", server.dsn)
        assert ask("database") == [schema.NOT_LOGICAL.of(level="replica")]
        assert ask("kept WAL") == [replication.LIMITED.of(mib=64)]
        with psycopg.connect(server.dsn) as connection:
            version = connection.info.parameter_status("server_version")
        monkeypatch.setattr(schema, "_MIN_VERSION", 990_000)
        assert ask("database")[0] == schema.TOO_OLD.of(version=version)
        assert ask("migrations") == [schema.NEVER_MIGRATED.of()]
        assert ask("partitions") == [schema.NO_FUNCTIONS.of()]
        assert ask("roles") == [roles.ROLES_MISSING.of(names="sre_owner and sre_writer and sre_relay and sre_reader and sre_query")]
    finally:
        stop_postgres(server)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("INSERT INTO schema_migration VALUES (9001, '9001_pre_more', '')", schema.AHEAD.of(name="9001_pre_more")),
        (
            "INSERT INTO schema_migration VALUES (9001, '9001_post_less', '')",
            schema.MISFIT.of(
                why="the database is newer than this sre-domain, which can't work with it since migration 9001_post_less: "
                "run the version that applied it, or a later one"
            ),
        ),
        (
            "UPDATE schema_migration SET checksum = 'x' WHERE number = (SELECT max(number) FROM schema_migration)",
            schema.CHANGED.of(name=NEWEST),
        ),
        (
            "DELETE FROM schema_migration WHERE number = (SELECT max(number) FROM schema_migration)",
            schema.MISFIT.of(why=f"the database is older than this sre-domain and lacks migration {NEWEST}: run sre-domain migrate"),
        ),
    ],
)
def test_a_schema_of_another_version_is_named(ask: Ask, slot: str, change: Change, statement: str, expected: Any) -> None:  # noqa: ANN401
    assert slot
    change(statement)
    assert ask("migrations") == [expected]


def test_a_post_migration_that_waits_is_named(ask: Ask, slot: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert slot
    for migration in read_migrations(MIGRATIONS):
        (tmp_path / f"{migration.name}.sql").write_bytes(migration.sql)
    (tmp_path / "9001_post_less.sql").write_text("SELECT 1")
    monkeypatch.setattr(schema, "MIGRATIONS", tmp_path)
    assert ask("migrations") == [schema.POST_WAITS.of(name="9001_post_less")]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("ALTER TABLE slo NO FORCE ROW LEVEL SECURITY", schema.OPEN_TABLE.of(table="slo")),
        ("ALTER TABLE outbox_default DISABLE ROW LEVEL SECURITY", schema.OPEN_TABLE.of(table="outbox_default")),
        ("ALTER TABLE sre_query.reader_tenant NO FORCE ROW LEVEL SECURITY", schema.OPEN_TABLE.of(table="sre_query.reader_tenant")),
        ("DROP POLICY tenants_of_batch ON incident", schema.NO_POLICY.of(table="incident")),
        ("ALTER POLICY tenants_of_batch ON incident USING (true)", schema.NO_POLICY.of(table="incident")),
        ("CREATE POLICY debugging ON alert USING (true)", schema.STRANGE_POLICY.of(policy="debugging", table="alert")),
        ("ALTER TABLE runbook OWNER TO postgres", schema.FOREIGN_OWNER.of(table="runbook", owner="postgres")),
    ],
)
def test_a_table_that_is_open_to_somebody_is_named(ask: Ask, slot: str, change: Change, statement: str, expected: Any) -> None:  # noqa: ANN401
    assert slot
    change(statement)
    assert ask("row security") == [expected]


def test_a_partition_that_is_missing_is_named_and_one_of_tomorrow_is_a_failure(ask: Ask, slot: str, change: Change) -> None:
    assert slot
    today = datetime.now(UTC).date()
    late, soon = today + timedelta(days=6), today + timedelta(days=1)
    change(f"DROP TABLE outbox_{late:%Y%m%d}")
    assert ask("partitions") == [schema.FEW_PARTITIONS.of(table="outbox", days=late)]
    change(f"DROP TABLE outbox_{soon:%Y%m%d}")
    assert ask("partitions") == [schema.NO_PARTITION.of(table="outbox", days=f"{soon}, {late}")]


# --- Logins


@pytest.mark.parametrize(
    ("rest", "why"),
    [("SUPERUSER", "is a superuser, or may become one"), ("IN ROLE sre_reader", "is no member of sre_writer")],
)
def test_a_workers_login_that_is_not_as_it_must_be(
    ask: Ask, slot: str, setting: Setting, a_role: Callable[[str], str], rest: str, why: str
) -> None:
    assert slot
    dsn = a_role(rest)
    setting("SRE_DATABASE_URL", dsn)
    assert ask("login of the worker") == [roles.WRITER.of(login=name_of(dsn), why=why)]


def test_a_login_of_another_job_that_is_not_as_it_must_be(
    ask: Ask, slot: str, setting: Setting, a_role: Callable[[str], str], database: str
) -> None:
    assert slot
    relay, reader, owner = "SRE_RELAY_DATABASE_URL", "SRE_QUERY_DATABASE_URL", "SRE_MIGRATE_DATABASE_URL"
    for variable, check, rest, expected in (
        (relay, "login of the relay", "REPLICATION BYPASSRLS", roles.NOT_RELAY),
        (relay, "login of the relay", "IN ROLE sre_relay", roles.NO_ATTRIBUTES),
        (
            relay,
            "login of the relay",
            "REPLICATION BYPASSRLS IN ROLE sre_relay, sre_writer",
            ("is a member of sre_writer", "sre_relay alone"),
        ),
        (relay, "login of the relay", "SUPERUSER", ("is a superuser", "sre_relay")),
        (reader, "login of readers", "", roles.NOT_READER),
        (reader, "login of readers", "IN ROLE sre_reader, sre_writer", ("is a member of sre_writer", "sre_reader alone")),
        (reader, "login of readers", "SUPERUSER", ("is a superuser", "sre_reader")),
        (owner, "login of migrations", "IN ROLE sre_writer", roles.NOT_OWNER),
    ):
        dsn = a_role(rest)
        setting(variable, dsn)
        if isinstance(expected, tuple):
            line = roles.TOO_MUCH.of(variable=variable, login=name_of(dsn), why=expected[0], role=expected[1])
        else:
            line = expected.of(login=name_of(dsn), attributes="REPLICATION and BYPASSRLS")
        assert ask(check) == [line]
    for variable, check in ((relay, "login of the relay"), (reader, "login of readers"), (owner, "login of migrations")):
        setting(variable, None)
        assert ask(check) == [roles.NOT_GIVEN.of(variable=variable)]
        setting(variable, make_conninfo(database, user="nobody_of_this_name"))
        (found,) = ask(check)
        assert found.do == roles.NO_LOGIN.do
        assert 'role "nobody_of_this_name" does not exist' in found.what


def test_a_relays_role_without_its_attributes_is_named(ask: Ask, setting: Setting, tmp_path: Path) -> None:
    with running_postgres(tmp_path) as server:
        setting("SRE_DATABASE_URL", server.dsn)
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            for role in ("sre_owner", "sre_writer", "sre_relay", "sre_reader"):
                connection.execute(f"CREATE ROLE {role}".encode())
            assert ask("roles") == [roles.ROLES_MISSING.of(names="sre_query")]
            connection.execute("CREATE ROLE sre_query")
            assert ask("roles") == [roles.RELAY_ROLE.of()]


# --- On the way out


def test_a_publication_that_is_not_as_it_must_be(ask: Ask, slot: str, change: Change) -> None:
    assert slot
    for statement, why, mend in (
        ("SET (publish = 'insert, delete')", "publishes insert, delete", "SET (publish = 'insert')"),
        ("SET (publish_via_partition_root = false)", "publishes partitions by their own names", "SET (publish_via_partition_root = true)"),
        ("SET TABLE slo", "is of public.slo", "SET TABLE outbox"),
        ("SET TABLE outbox WHERE (tenant_id <> 'acme')", "leaves out rows or columns", "SET TABLE outbox"),
    ):
        change(f"ALTER PUBLICATION sre_outbox {statement}")
        expected = replication.WRONG_PUBLICATION.of(why=why, command=f"ALTER PUBLICATION sre_outbox {mend}")
        assert expected in ask("publication")
        change(f"ALTER PUBLICATION sre_outbox {mend}")  # what it says helps
        assert ask("publication") == [replication.PUBLISHED.of()]
    change("DROP PUBLICATION sre_outbox")
    assert ask("publication") == [replication.NO_PUBLICATION.of()]


def test_a_slot_that_is_missing_idle_or_anothers_is_named(ask: Ask, slot: str, change: Change, database: str) -> None:
    assert ask("slot") == [replication.NO_SLOT.of(slot=slot)]
    change(f"SELECT pg_create_physical_replication_slot('{slot}')")
    try:
        assert ask("slot") == [replication.FOREIGN_SLOT.of(slot=slot, what="a physical slot of the cluster")]
    finally:
        change(f"SELECT pg_drop_replication_slot('{slot}')")
    change(f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")
    with psycopg.connect(database) as connection:
        can_fail_over = connection.info.server_version >= 170_000
    idle = [replication.INACTIVE.of(slot=slot, behind=0)]
    assert ask("slot") == idle + ([replication.NO_FAILOVER.of(slot=slot)] if can_fail_over else [])
    assert ask("kept WAL") == [replication.UNLIMITED.of()]
    ensure_slot(database, slot)  # what migrate does
    assert ask("slot") == idle


def test_a_slot_that_nobody_remembers_is_named(ask: Ask, streamed: str, change: Change) -> None:
    forgotten = f"forgotten_{uuid4().hex}"
    change(f"SELECT pg_create_logical_replication_slot('{forgotten}', 'pgoutput')")
    assert streamed
    assert ask("kept WAL") == [replication.OTHER_SLOT.of(slot=forgotten), replication.UNLIMITED.of()]


def test_a_slot_that_keeps_much_wal_is_named(ask: Ask, streamed: str, change: Change, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replication, "_MUCH_WAL_BYTES", 1 << 20)
    # Of a transaction: its commit writes it. Else it is the WAL writer that does, within 200 ms.
    change("SELECT pg_logical_emit_message(true, 'test', repeat('x', 3000000))")
    (found,) = ask("slot")
    assert found.do == replication.BEHIND.of(slot=streamed, retained=0).do


def test_a_slot_whose_wal_was_removed_is_named(ask: Ask, slot: str, setting: Setting, tmp_path: Path) -> None:
    server = start_postgres(tmp_path, changes={"max_slot_wal_keep_size": "1MB", "max_wal_size": "4GB"})
    try:
        setting("SRE_DATABASE_URL", server.dsn)
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])
            fill = "SELECT pg_logical_emit_message(false, 'test', repeat('x', 1000000)), pg_switch_wal()"
            for _ in range(3):
                connection.execute(fill.encode())
            status = "SELECT wal_status FROM pg_replication_slots"
            assert connection.execute(status).fetchone() == ("unreserved",)
            assert ask("slot")[0].do == replication.UNRESERVED.of(slot=slot, behind=0).do
            connection.execute("CHECKPOINT")
            assert connection.execute(status).fetchone() == ("lost",)
            assert ask("slot") == [replication.LOST.of(slot=slot)]
    finally:
        stop_postgres(server)


# --- Clocks and keys


@pytest.mark.parametrize(("seconds", "line"), [(30, clocks.OFF), (-30, clocks.OFF), (200, clocks.FAR_OFF), (-200, clocks.FAR_OFF)])
def test_a_host_whose_clock_is_off_is_told_by_how_much_and_which_way(ask: Ask, slot: str, seconds: int, line: Any) -> None:  # noqa: ANN401
    assert slot
    (found,) = ask("clock and PostgreSQL", lambda: datetime.now(UTC) + timedelta(seconds=seconds))
    which = "ahead of" if seconds > 0 else "behind"
    assert (found.status, found.do) == (line.status, line.do)
    assert f" s {which} PostgreSQL's" in found.what
    assert ask("clock and PostgreSQL")[0].status == clocks.WITH_POSTGRES.status


def test_keys_that_are_missing_ending_or_ended_are_named(ask: Ask, slot: str, setting: Setting, change: Change, tmp_path: Path) -> None:
    assert slot

    def add(signer: Signer, valid_from: str, valid_until: str, revoked_at: str = "NULL") -> None:
        change(
            "INSERT INTO signing_key (tenant_id, public_key, principal, intents, valid_from, valid_until, revoked_at) VALUES"  # noqa: S608
            rf" ('acme', '\x{signer.public_key.hex()}', 'ann', '{{CreateSLORequested}}', now() + interval '{valid_from}',"
            f" now() + interval '{valid_until}', {revoked_at})"
        )

    setting("SRE_SIGNATURES", "warn")
    assert ask("signatures") == [surroundings.NO_KEYS_YET.of()]
    setting("SRE_SIGNATURES", "require")
    add(Signer.generate(), "-9 days", "-1 day")
    add(Signer.generate(), "-9 days", "9 days", "now()")
    assert ask("signatures") == [surroundings.NO_KEYS.of()]
    add(Signer.generate(), "-9 days", "90 days")
    assert ask("signatures") == [surroundings.SIGNED.of(mode="require", count=1)]
    ending = Signer.generate()
    add(ending, "-9 days", "9 days")
    assert ask("signatures") == [surroundings.ENDING.of(keys=ending.key_id)]

    setting("SRE_SIGNATURES", "off")
    file = tmp_path / "key.pem"
    setting("SRE_SIGNING_KEY_FILE", str(file))
    file.write_text("garbage")
    assert ask("signatures")[0].do == surroundings.OWN_UNREADABLE.do
    for valid_until, revoked_at, line in (("-1 day", "NULL", surroundings.OWN_EXPIRED), ("9 days", "now()", surroundings.OWN_REVOKED)):
        own = Signer.generate()
        file.write_bytes(own.pem())
        assert ask("signatures") == [surroundings.OWN_UNKNOWN.of(key=own.key_id)]
        add(own, "-9 days", valid_until, revoked_at)
        assert ask("signatures") == [line.of(key=own.key_id)]


# --- What the doctor itself may do


@pytest.mark.parametrize("login_of", [str, as_writer, as_relay])
def test_the_doctor_can_write_nothing(database: str, login_of: Callable[[str], str]) -> None:
    with schema.session(login_of(database)) as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute("CREATE TEMPORARY TABLE note () ON COMMIT DROP; INSERT INTO intake_position VALUES ('a', 1, 1)")
