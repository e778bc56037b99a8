"""Signing keys in a real PostgreSQL: what the table takes, how a worker sees changes, and `sre-domain keys`."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from typer.testing import CliRunner, Result

from tests.support.roles import as_reader, as_relay, as_writer
from worker.cli.keys import KeysError, app
from worker.postgres.key_ring import KeyRing
from worker.postgres.named_sql import statements
from worker.signatures import Signer

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path


Keys = Callable[..., Result]

GOOD = {"tenant_id": "acme", "principal": "importer", "intents": ["IngestAlertRequested"], "actor": None, "valid_from": None, "days": 1}


def add(database: str, signer: Signer, **changes: object) -> str:
    named = {**GOOD, "public_key": signer.public_key, "valid_until": None, **changes}
    with psycopg.connect(database) as connection:
        row = connection.execute(statements("keys")["add_key"], named).fetchone()
    assert row is not None
    return str(row[0])


def revoke(database: str, key_id: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(statements("keys")["revoke_key"], {"key_id": key_id})


# --- The table


def test_a_key_s_id_is_the_one_that_its_holder_derives(database: str) -> None:
    signer = Signer.generate()
    assert add(database, signer) == signer.key_id


@pytest.mark.parametrize(
    "change",
    [
        {"tenant_id": ""},
        {"tenant_id": "acme\n"},
        {"tenant_id": "-acme"},
        {"tenant_id": "a" * 64},
        {"principal": ""},
        {"principal": "an importer"},
        {"principal": "importér"},
        {"principal": "x" * 201},
        {"public_key": b"x" * 31},
        {"public_key": b"x" * 33},
        {"intents": []},
        {"intents": [None]},
        {"intents": ["IngestAlert"]},
        {"intents": ["IngestAlertRequested", ""]},
        {"intents": [["IngestAlertRequested"], ["CreateSLORequested"]]},
        {"actor": ""},
        {"actor": " "},
        {"actor": "ann\x1b[2J"},
        {"actor": "a" * 201},
        {"valid_from": datetime(2026, 1, 2, tzinfo=UTC), "valid_until": datetime(2026, 1, 2, tzinfo=UTC)},
        {"valid_until": datetime(2026, 1, 1, tzinfo=UTC), "valid_from": datetime(2026, 1, 2, tzinfo=UTC)},
    ],
    ids=str,
)
def test_the_table_refuses_what_is_no_key(database: str, change: dict[str, Any]) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        add(database, Signer.generate(), **change)


def test_infinite_times_and_the_same_key_twice_are_refused(database: str) -> None:
    signer = Signer.generate()
    add(database, signer)
    with pytest.raises(psycopg.errors.UniqueViolation):
        add(database, signer, tenant_id="globex")
    with pytest.raises(psycopg.errors.CheckViolation), psycopg.connect(database) as connection:
        connection.execute("UPDATE signing_key SET valid_until = 'infinity'")


def test_a_worker_reads_all_keys_and_writes_none_and_others_see_nothing(database: str) -> None:
    signer = Signer.generate()
    add(database, signer)
    with psycopg.connect(as_writer(database), autocommit=True) as writer:
        assert [row[0] for row in writer.execute(statements("keys")["keys"]).fetchall()] == [signer.key_id]
        for statement in (b"UPDATE signing_key SET revoked_at = NULL", b"DELETE FROM signing_key", b"TRUNCATE signing_key"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                writer.execute(statement)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            writer.execute(statements("keys")["add_key"], {**GOOD, "public_key": Signer.generate().public_key, "valid_until": None})
    for stranger in (as_reader(database), as_relay(database)):
        with psycopg.connect(stranger) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statements("keys")["keys"].replace(b"FROM signing_key", b"FROM public.signing_key"))


# --- The ring


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def with_ring(database: str, story: Callable[[KeyRing, Clock], Awaitable[None]]) -> None:
    async def run() -> None:
        clock = Clock()
        ring = KeyRing(as_writer(database), clock)
        try:
            await story(ring, clock)
        finally:
            await ring.close()

    asyncio.run(run())


def test_a_revocation_holds_at_the_latest_after_five_seconds(database: str) -> None:
    signer = Signer.generate()
    add(database, signer)

    async def story(ring: KeyRing, clock: Clock) -> None:
        keys = await ring.keys_now([signer.key_id])
        assert not keys[signer.key_id].is_revoked
        revoke(database, signer.key_id)
        clock.now += 1.9
        assert not (await ring.keys_now([signer.key_id]))[signer.key_id].is_revoked
        clock.now += 3.1
        assert (await ring.keys_now([signer.key_id]))[signer.key_id].is_revoked

    with_ring(database, story)


def test_older_keys_than_two_seconds_are_read_again_beside_the_batches(database: str) -> None:
    signer = Signer.generate()
    add(database, signer)

    async def story(ring: KeyRing, clock: Clock) -> None:
        await ring.keys_now([])
        revoke(database, signer.key_id)
        clock.now += 2.0
        assert not (await ring.keys_now([signer.key_id]))[signer.key_id].is_revoked, "nobody waits"
        assert ring._reading is not None
        await ring._reading
        assert (await ring.keys_now([signer.key_id]))[signer.key_id].is_revoked

    with_ring(database, story)


def test_a_new_key_is_known_at_once_also_after_made_up_ones(database: str) -> None:
    async def story(ring: KeyRing, _: Clock) -> None:
        made_up = ["0" * 16, "'; DROP TABLE signing_key; --", "", "ü" * 16]
        assert await ring.keys_now(made_up) == {}
        signer = Signer.generate()
        add(database, signer)
        assert set(await ring.keys_now([*made_up, signer.key_id])) == {signer.key_id}

    with_ring(database, story)


def test_made_up_keys_cost_a_batch_one_look_up_and_what_is_no_id_none(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    query = KeyRing._query

    async def counted(ring: KeyRing, statement: str, named: Any) -> Any:  # noqa: ANN401
        asked.append(statement)
        return await query(ring, statement, named)

    monkeypatch.setattr(KeyRing, "_query", counted)

    async def story(ring: KeyRing, _: Clock) -> None:
        await ring.keys_now([])
        await asyncio.gather(*(ring.keys_now([f"{number:016x}" for number in range(500)]) for _ in range(3)))
        await ring.keys_now(["no id", "x" * 1024])
        assert asked == ["keys", *["keys_of"] * 3]

    with_ring(database, story)


def test_without_a_database_nothing_is_decided_by_old_keys(database: str) -> None:
    signer = Signer.generate()
    add(database, signer)

    async def story(ring: KeyRing, clock: Clock) -> None:
        await ring.keys_now([])
        await ring.close()
        ring._dsn = "host=127.0.0.1 port=1"
        clock.now += 4.9
        assert signer.key_id in await ring.keys_now([signer.key_id])
        clock.now += 0.1
        for _ in range(2):
            with pytest.raises(psycopg.OperationalError):
                await ring.keys_now([signer.key_id])
        ring._dsn = as_writer(database)
        assert signer.key_id in await ring.keys_now([signer.key_id])

    with_ring(database, story)


def test_a_reading_that_broke_is_made_again_on_a_new_connection(database: str) -> None:
    async def story(ring: KeyRing, clock: Clock) -> None:
        await ring.keys_now([])
        with psycopg.connect(database, autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sre-domain worker'")
        clock.now += 5.0
        with pytest.raises(psycopg.OperationalError):
            await ring.keys_now([])
        assert await ring.keys_now([]) == {}

    with_ring(database, story)


# --- The command


@pytest.fixture
def keys(database: str, monkeypatch: pytest.MonkeyPatch) -> Keys:
    monkeypatch.setenv("SRE_DATABASE_URL", as_writer(database))
    monkeypatch.setenv("SRE_MIGRATE_DATABASE_URL", database)
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)))


def test_a_new_key_s_private_part_is_in_a_file_of_its_owner_and_nowhere_else(keys: Keys, tmp_path: Path, database: str) -> None:
    file = tmp_path / "key.pem"
    made = keys("new", file, "--tenant", "acme", "--principal", "alertmanager", "--type", "IngestAlert", "--days", "7")
    assert made.exit_code == 0, made.output
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    signer = Signer.from_file(file)
    secret = "".join(file.read_text().splitlines()[1:-1])
    assert secret not in made.output
    assert "PRIVATE" not in made.output
    with psycopg.connect(database) as connection:
        row = connection.execute(
            "SELECT key_id, public_key, tenant_id, principal, intents, actor, valid_until - valid_from FROM signing_key"
        ).fetchone()
    assert row == (signer.key_id, signer.public_key, "acme", "alertmanager", ["IngestAlertRequested"], None, timedelta(days=37))
    assert signer.key_id in made.output


def test_a_file_that_exists_is_left_alone(keys: Keys, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text("another key")
    result = keys("new", file, "--tenant", "acme", "--principal", "p", "--type", "IngestAlert")
    assert isinstance(result.exception, KeysError)
    assert file.read_text() == "another key"
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert isinstance(keys("new", tmp_path / "link", "--tenant", "acme", "--principal", "p", "--type", "IngestAlert").exception, KeysError)
    assert not (tmp_path / "elsewhere").exists()
    assert keys("list").output.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--tenant", "no tenant", "--principal", "p", "--type", "IngestAlert"], "--tenant"),
        (["--tenant", "acme", "--principal", "a p", "--type", "IngestAlert"], "--principal"),
        (["--tenant", "acme", "--principal", "p\ud800", "--type", "IngestAlert"], "--principal"),
        (["--tenant", "acme", "--principal", "p"], "--type"),
        (["--tenant", "acme", "--principal", "p", "--type", "DropAll\x1b[2J"], "--type"),
        (["--tenant", "acme", "--principal", "p", "--type", "IngestAlert", "--actor", " "], "--actor"),
        (["--tenant", "acme", "--principal", "p", "--type", "IngestAlert", "--actor", "\udcff"], "--actor"),
        (["--tenant", "acme", "--principal", "p", "--type", "IngestAlert", "--valid-until", "tomorrow"], "--valid-until"),
    ],
)
def test_an_option_that_is_wrong_is_named_and_nothing_is_made(keys: Keys, tmp_path: Path, options: list[str], named: str) -> None:
    result = keys("new", tmp_path / "key.pem", *options)
    assert result.exit_code == 2
    assert named in result.output
    assert "\x1b[2J" not in result.output
    assert not (tmp_path / "key.pem").exists()


def test_without_a_database_no_file_is_left(keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SRE_MIGRATE_DATABASE_URL", "host=127.0.0.1 port=1")
    result = keys("new", tmp_path / "key.pem", "--tenant", "acme", "--principal", "p", "--type", "IngestAlert")
    assert isinstance(result.exception, KeysError)
    assert not (tmp_path / "key.pem").exists()


def test_a_role_that_is_not_the_owner_s_is_told(keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str) -> None:
    monkeypatch.setenv("SRE_MIGRATE_DATABASE_URL", as_writer(database))
    result = keys("new", tmp_path / "key.pem", "--tenant", "acme", "--principal", "p", "--type", "IngestAlert")
    assert "SRE_MIGRATE_DATABASE_URL must be its owner's" in str(result.exception)


def test_names_of_intents_may_be_short_or_full_and_are_kept_once(keys: Keys, tmp_path: Path, database: str) -> None:
    names = ["IngestAlert", "IngestAlertRequested", "sre.core.v1.IngestAlertRequested", "AcknowledgeAlert"]
    options = [option for name in names for option in ("--type", name)]
    assert keys("new", tmp_path / "key.pem", "--tenant", "acme", "--principal", "p", *options).exit_code == 0
    with psycopg.connect(database) as connection:
        kept = connection.execute("SELECT intents FROM signing_key").fetchall()
    assert kept == [(["IngestAlertRequested", "AcknowledgeAlertRequested"],)]


def test_the_list_shows_what_state_each_key_is_in(keys: Keys, database: str) -> None:
    now = datetime.now(UTC)
    signers = [Signer.generate() for _ in range(4)]
    add(database, signers[0], principal="one", actor="Änn \u202e")
    add(database, signers[1], principal="two", valid_from=now + timedelta(days=1), days=2)
    add(database, signers[2], principal="three", valid_until=now - timedelta(days=1))
    add(database, signers[3], principal="four", tenant_id="globex")
    revoke(database, signers[3].key_id)
    lines = keys("list").output.splitlines()[1:]
    states = [line.split(maxsplit=1)[1].split("  ")[0].split(" 2")[0] for line in lines]
    assert sorted(states) == ["expired", "in force", "not yet", "revoked"]
    assert any("Änn \\u202e" in line for line in lines)
    assert len(keys("list", "--tenant", "globex").output.splitlines()) == 2


def test_to_revoke_is_for_good_and_once_more_changes_nothing(keys: Keys, database: str) -> None:
    key_id = add(database, Signer.generate())
    first = keys("revoke", key_id)
    assert (first.exit_code, "is revoked since" in first.output) == (0, True)
    with psycopg.connect(database) as connection:
        revoked = connection.execute("SELECT revoked_at FROM signing_key").fetchone()
        assert keys("revoke", key_id).output == first.output
        assert connection.execute("SELECT revoked_at FROM signing_key").fetchone() == revoked
    assert isinstance(keys("revoke", "0000000000000000").exception, KeysError)
