"""A version that is asked for is read or waited for: on a primary by its writers' commits, on a standby as it replays."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from psycopg.sql import SQL, Identifier

from tests.support.operations import GETS
from tests.support.roles import as_reader
from tests.support.standby import STANDBY_SLOT, start_standby
from tests.support.two_tenants import ID, TwoTenants, two_tenants
from worker.devstack.logins import READER, login, make_logins
from worker.devstack.postgres import PostgresServer, running_postgres, stop_postgres
from worker.postgres.migrate import migrate
from worker.postgres.queries import QueryError, SreHealthQueryService, SreSLOQueryService, connect_reader
from worker.postgres.queries.reading import once_visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Connection = psycopg.Connection[Any]
TABLES = {
    "get_incident": "incident",
    "get_alert": "alert",
    "get_runbook": "runbook",
    "get_slo": "slo",
    "get_current_fleet_state": "fleetstate",
}
INSERT_SLO = """
    INSERT INTO slo VALUES ('acme', 'checkout', 1, now(), now(), '', '', '', '', 99, '7d', 'good', 'total', 'occurrences', NULL, NULL,
        'no_data', 100, 0, NULL, NULL, 0, 0, 0, 0, 0)
"""
BEYOND_ANY = 2**200


@pytest.fixture(scope="module")
def tenants(server: str, template: str) -> Iterator[TwoTenants]:
    """Whose aggregates begin at version 7."""
    with two_tenants(server, template) as made:
        yield made


@pytest.fixture
def reader(tenants: TwoTenants) -> Iterator[Connection]:
    with connect_reader(tenants.as_login(READER)) as connection:
        yield connection


def code_of(read: Callable[..., object], *arguments: object, **wait: object) -> str:
    with pytest.raises(QueryError) as raised:
        read(*arguments, **wait)
    assert str(raised.value).startswith(f"{raised.value.code}: ")
    return raised.value.code


@pytest.mark.parametrize("operation", GETS)
def test_a_version_that_is_there_or_was_passed_is_read(reader: Connection, operation: str) -> None:
    get = GETS[operation]
    assert get(reader, "acme", min_version=7) == get(reader, "acme", min_version=1) == get(reader, "acme", min_version=None) != None  # noqa: E711


@pytest.mark.parametrize("operation", GETS)
def test_a_version_that_is_not_there_is_not_yet(reader: Connection, operation: str) -> None:
    for version in (8, BEYOND_ANY):
        assert code_of(GETS[operation], reader, "acme", min_version=version, wait_seconds=0) == "NOT_YET"


@pytest.mark.parametrize("operation", GETS)
def test_an_unknown_id_is_not_yet_where_a_version_is_asked_for(reader: Connection, operation: str) -> None:
    assert not getattr(GETS[operation](reader, "acme", "unknown"), "items", None)
    assert code_of(GETS[operation], reader, "acme", "unknown", min_version=1, wait_seconds=0) == "NOT_YET"


@pytest.mark.parametrize("operation", GETS)
def test_another_tenants_version_is_not_this_ones(tenants: TwoTenants, reader: Connection, operation: str) -> None:
    tenants.execute(SQL("UPDATE {} SET version = 9 WHERE tenant_id = 'globex'").format(Identifier(TABLES[operation])))
    assert code_of(GETS[operation], reader, "acme", min_version=9, wait_seconds=0) == "NOT_YET"
    assert "version=9" in repr(GETS[operation](reader, "globex", min_version=9))


@pytest.mark.parametrize("operation", GETS)
def test_what_is_no_version_is_refused(reader: Connection, operation: str) -> None:
    for version in (0, -1, -BEYOND_ANY):
        assert code_of(GETS[operation], reader, "acme", min_version=version) == "MIN_VERSION_INVALID"


@pytest.mark.parametrize("operation", GETS)
def test_a_tenant_that_is_not_granted_is_never_not_yet(tenants: TwoTenants, operation: str) -> None:
    with connect_reader(tenants.as_reader("acme")) as connection:
        for version in (0, 1, BEYOND_ANY):
            assert code_of(GETS[operation], connection, "globex", min_version=version) == "TENANT_MISMATCH"


def test_clusters_have_no_version_together(reader: Connection) -> None:
    service = SreHealthQueryService(reader)
    assert code_of(service.get_current_fleet_state, "acme", "production", min_version=1) == "MIN_VERSION_INVALID"


def test_the_functions_have_it_as_an_argument(reader: Connection) -> None:
    call = "SELECT version FROM sre_query.get_slo('acme', %s, %s)"
    assert reader.execute(call, [ID, 7]).fetchall() == [(7,)]
    for version, state in ((8, "SRE05"), (0, "SRE06")):
        with pytest.raises(psycopg.Error) as raised:
            reader.execute(call, [ID, version])
        assert raised.value.sqlstate == state


# --- Waiting


@dataclass
class Clock:
    """Time passes only in sleep(), and what is to happen meanwhile happens there."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)
    meanwhile: Callable[[], object] = lambda: None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)
        self.meanwhile()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("worker.postgres.queries.reading.time", clock)
    return clock


def test_a_commit_is_seen_by_who_waits_and_no_transaction_is_open_meanwhile(database: str, clock: Clock) -> None:
    with connect_reader(as_reader(database)) as reader, psycopg.connect(database) as writer:
        steps = iter((lambda: writer.execute(INSERT_SLO), lambda: None, writer.commit))

        def meanwhile() -> None:
            assert reader.info.transaction_status is TransactionStatus.IDLE
            next(steps)()

        clock.meanwhile = meanwhile
        slo = SreSLOQueryService(reader).get_slo("acme", "checkout", min_version=1)
    assert slo is not None
    assert (slo.version, len(clock.slept)) == (1, 3)


def never() -> None:
    raise QueryError("NOT_YET: version 2 is not visible yet")


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_no_time_is_one_attempt(clock: Clock, seconds: float) -> None:
    assert code_of(once_visible, never, seconds) == "NOT_YET"
    assert clock.slept == []


def test_pauses_grow_up_to_a_fifth_of_a_second_and_end_with_the_time(clock: Clock) -> None:
    assert code_of(once_visible, never, 1) == "NOT_YET"
    assert clock.slept == pytest.approx([0.01, 0.02, 0.04, 0.08, 0.16, 0.2, 0.2, 0.2, 0.09])
    assert clock.now == pytest.approx(1)


def test_another_error_is_not_waited_for(clock: Clock) -> None:
    def refuse() -> None:
        raise QueryError("TENANT_MISMATCH: no")

    assert code_of(once_visible, refuse, 60) == "TENANT_MISMATCH"
    assert clock.slept == []


# --- A standby


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PostgresServer, PostgresServer]]:
    directory: Path = tmp_path_factory.mktemp("pair")
    with running_postgres(directory / "primary") as primary:
        migrate(primary.dsn)
        make_logins(primary.dsn)
        with psycopg.connect(primary.dsn) as connection:
            connection.execute("SELECT pg_create_physical_replication_slot(%s, true)", [STANDBY_SLOT])
            connection.execute(INSERT_SLO)
        standby = start_standby(directory / "standby", primary)
        try:
            yield primary, standby
        finally:
            stop_postgres(standby)


def test_a_standby_does_not_answer_unless_it_may(pair: tuple[PostgresServer, PostgresServer]) -> None:
    _, standby = pair
    with pytest.raises(psycopg.OperationalError, match="server is in hot standby mode"):
        connect_reader(login(standby.dsn, READER))


def test_a_reader_finds_the_primary_among_the_servers(pair: tuple[PostgresServer, PostgresServer]) -> None:
    primary, standby = pair
    servers = f"host=127.0.0.1,127.0.0.1 port={standby.port},{primary.port} dbname=postgres user={READER}"
    with connect_reader(servers) as connection:
        assert connection.info.port == primary.port


def test_a_standby_that_may_answer_says_not_yet_until_it_has_replayed(pair: tuple[PostgresServer, PostgresServer]) -> None:
    primary, standby = pair
    reader_dsn = f"{login(standby.dsn, READER)} target_session_attrs=any"
    with psycopg.connect(standby.dsn, autocommit=True) as replaying, connect_reader(reader_dsn) as reader, ThreadPoolExecutor(1) as threads:
        service = SreSLOQueryService(reader)
        service.get_slo("acme", "checkout", min_version=1, wait_seconds=60)
        replaying.execute("SELECT pg_wal_replay_pause()")
        while replaying.execute("SELECT pg_get_wal_replay_pause_state()").fetchone() != ("paused",):
            time.sleep(0.01)
        with psycopg.connect(primary.dsn) as writer:
            writer.execute("UPDATE slo SET version = 2")
        stale = service.get_slo("acme", "checkout")
        assert stale is not None
        assert stale.version == 1
        assert code_of(service.get_slo, "acme", "checkout", min_version=2, wait_seconds=0.1) == "NOT_YET"
        waiting = threads.submit(service.get_slo, "acme", "checkout", min_version=2, wait_seconds=60)
        replaying.execute("SELECT pg_wal_replay_resume()")
        slo = waiting.result(60)
        assert slo is not None
        assert slo.version == 2
