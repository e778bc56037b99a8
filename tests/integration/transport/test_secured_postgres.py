"""Every command that connects to PostgreSQL, against one that speaks TLS or not at all and asks for a SCRAM password."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, LiteralString, NamedTuple

import psycopg
import pytest

from tests.support.certificates import Authority
from tests.support.secured_postgres import LOGINS, secured_postgres
from worker.cli import main
from worker.relay import replication

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.support.secured_postgres import SecuredPostgres

VARIABLES = {
    "SRE_DATABASE_URL": "writer",
    "SRE_MIGRATE_DATABASE_URL": "owner",
    "SRE_RELAY_DATABASE_URL": "relay",
    "SRE_QUERY_DATABASE_URL": "reader",
}
COMMANDS = {
    "migrate": ("migrate",),
    "maintain": ("maintain",),
    "rebuild": ("relay", "rebuild"),
    "query": ("query", "get-slo", "checkout", "--tenant", "acme"),
}


class Ended(NamedTuple):
    status: int
    complaint: str


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[SecuredPostgres]:
    with secured_postgres(tmp_path_factory.mktemp("postgres"), authority) as server:
        yield server


@pytest.mark.parametrize("login", LOGINS)
def test_whoever_verifies_the_server_and_knows_the_password_gets_in(postgres: SecuredPostgres, login: str) -> None:
    with psycopg.connect(postgres.dsn(login)) as connection:
        row = connection.execute("SELECT ssl, version LIKE 'TLSv1.%' FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
    assert row == (True, True)


def test_the_replication_connection_is_encrypted_too(postgres: SecuredPostgres) -> None:
    assert replication.identity_of(postgres.dsn("relay")).database == "postgres"
    with pytest.raises(psycopg.OperationalError, match="does not match host name"):
        replication.identity_of(postgres.dsn("relay", host="localhost"))


REFUSED: dict[str, tuple[dict[str, str], LiteralString]] = {
    "no TLS": ({"sslmode": "disable", "channel_binding": "disable"}, "no pg_hba.conf entry .* no encryption"),
    "another authority": ({"sslrootcert": "OTHER"}, "certificate verify failed"),
    "a host that the certificate does not name": ({"host": "localhost"}, 'does not match host name "localhost"'),
    "a wrong password": ({"password": "TOPSECRET-wrong"}, "password authentication failed"),
    "no password": ({"password": "", "channel_binding": "prefer"}, "no password supplied"),
}


@pytest.mark.parametrize(("changes", "reason"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("command", COMMANDS)
def test_anything_less_is_refused_in_one_line(
    postgres: SecuredPostgres, run: Callable[..., Ended], tmp_path: Path, command: str, changes: dict[str, str], reason: str
) -> None:
    changes = {name: str(Authority(tmp_path).ca) if value == "OTHER" else value for name, value in changes.items()}
    ended = run(command, {login: postgres.dsn(login, **changes) for login in LOGINS})
    assert ended.status in {1, 2}
    (line,) = ended.complaint.splitlines()
    assert re.search(reason, line), line
    assert "TOPSECRET" not in line


@pytest.mark.parametrize("command", ["migrate", "maintain", "query"])
def test_a_command_works_over_a_verified_connection(postgres: SecuredPostgres, run: Callable[..., Ended], command: str) -> None:
    ended = run(command, {login: postgres.dsn(login) for login in LOGINS})
    # What a query answers to a role that no tenant was granted comes from a function of the database.
    assert ended.status == (2 if command == "query" else 0), ended.complaint
    assert command != "query" or ended.complaint.startswith("TENANT_MISMATCH")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs a command here: its status, and what it said on stderr."""
    for name in [name for name in os.environ if name.startswith("SRE_")]:
        monkeypatch.delenv(name)

    def run_here(command: str, dsns: Mapping[str, str]) -> Ended:
        monkeypatch.setenv("SRE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
        for name, login in VARIABLES.items():
            monkeypatch.setenv(name, dsns[login])
        monkeypatch.setattr(sys, "argv", ["sre-domain", *COMMANDS[command]])
        with pytest.raises(SystemExit) as ended:
            main()
        return Ended(int(ended.value.code or 0), capsys.readouterr().err)

    return run_here
