"""PostgreSQL fails over: the relay goes on by itself where the standby has all that was published, and else says what to run."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest

from tests.integration.relay.harness import (
    Fact,
    current_lsn,
    facts_of,
    insert_facts,
    relay_in_thread,
    settings_for,
    wait_for_facts,
    wait_until,
    wait_until_confirmed,
)
from tests.support.standby import STANDBY_SLOT, start_standby
from worker.devstack.logins import make_logins
from worker.devstack.postgres import PostgresServer, start_postgres
from worker.doctor.database import STANDBY, check_server
from worker.postgres.migrate import migrate
from worker.relay.rebuild import rebuild
from worker.relay.relay import run
from worker.relay.slot import OutboxNotEmptyError, make_slot
from worker.relay.survey import ForgottenError
from worker.relay.watermark import WatermarkError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from worker.settings import Settings

COMMAND = "run sre-domain relay rebuild"
NAMES = [f"slo-{number}" for number in range(20)]
SYNCED = "SELECT synced AND NOT temporary FROM pg_replication_slots WHERE slot_name = %s"


class Pair:
    """A primary, with a standby that streams from it."""

    def __init__(self, directory: Path) -> None:
        self.primary = start_postgres(directory / "primary")
        migrate(self.primary.dsn)
        make_logins(self.primary.dsn)
        ask(self.primary, f"SELECT pg_create_physical_replication_slot('{STANDBY_SLOT}')")
        self.standby = start_standby(directory / "standby", self.primary)

    def wait_until_standby_has_all(self) -> None:
        with psycopg.connect(self.primary.dsn) as connection:
            lsn = current_lsn(connection)
        wait_until(lambda: int(ask(self.standby, "SELECT (pg_last_wal_replay_lsn() - '0/0')::bigint")) >= lsn, "the standby has replayed")

    def sync_slot(self, slot: str) -> None:
        """While a relay streams: a copy is kept once the slot has moved on from where the standby began."""

        def synced() -> bool:
            ask(self.primary, "SELECT pg_log_standby_snapshot()")
            ask(self.standby, "SELECT pg_sync_replication_slots()")
            with psycopg.connect(self.standby.dsn) as connection:
                return connection.execute(SYNCED, [slot]).fetchone() == (True,)

        wait_until(synced, "the standby keeps a copy of the slot")

    def fail_over(self, settings: Settings) -> Settings:
        self.primary.process.kill()
        self.primary.process.wait(10)
        assert ask(self.standby, "SELECT pg_promote()") == "True"
        return settings_for(settings.kafka_bootstrap_servers, self.standby.dsn, relay_slot=settings.relay_slot)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    try:
        yield Pair(tmp_path)
    finally:
        for process in psutil.Process().children():
            if process.name() == "postgres" and process.cwd().startswith(str(tmp_path)):
                process.send_signal(signal.SIGQUIT)
                process.wait(10)


def ask(server: PostgresServer, query: str) -> str:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        row = cursor.fetchone() if cursor.description else None
    return "" if row is None else str(row[0])


def commit(settings: Settings, facts: list[Fact]) -> list[Fact]:
    with psycopg.connect(settings.writer_dsn) as connection:
        insert_facts(connection, facts)
    return facts


@contextmanager
def published(settings: Settings, facts: list[Fact]) -> Iterator[None]:
    """A relay that has published and confirmed the facts, and streams."""
    with relay_in_thread(settings):
        commit(settings, facts)
        wait_for_facts(settings.kafka_bootstrap_servers, facts)
        with psycopg.connect(settings.writer_dsn) as connection:
            lsn = current_lsn(connection)
        wait_until_confirmed(settings, lsn)
        yield


def goes_on(settings: Settings, facts: list[Fact]) -> None:
    with relay_in_thread(settings):
        new = commit(settings, facts_of(NAMES, [9]))
        wait_for_facts(settings.kafka_bootstrap_servers, facts + new)


def quiet(_step: str, _done: int, _total: int) -> None:
    pass


@pytest.fixture
def settings(kafka: str, topics: tuple[str, ...], pair: Pair) -> Settings:  # noqa: ARG001 - there, and empty
    made = settings_for(kafka, pair.primary.dsn)
    make_slot(made.relay_dsn, made.relay_slot)
    return made


def test_with_a_failover_slot_the_relay_goes_on_by_itself(pair: Pair, settings: Settings) -> None:
    ask(pair.primary, f"ALTER SYSTEM SET synchronized_standby_slots = '{STANDBY_SLOT}'")
    ask(pair.primary, "SELECT pg_reload_conf()")
    facts = facts_of(NAMES, [1, 2])
    with published(settings, facts):
        pair.sync_slot(settings.relay_slot)
    later = facts_of(NAMES, [3])
    with relay_in_thread(settings):
        commit(settings, later)
        wait_for_facts(settings.kafka_bootstrap_servers, facts + later)
    waiting = commit(settings, facts_of(NAMES, [4]))
    pair.wait_until_standby_has_all()
    assert list(check_server(pair.standby.dsn)) == [STANDBY.of()]
    goes_on(pair.fail_over(settings), facts + later + waiting)


def test_without_a_failover_slot_a_rebuild_makes_one(pair: Pair, settings: Settings) -> None:
    facts = facts_of(NAMES, [1, 2])
    with published(settings, facts):
        pass
    waiting = commit(settings, facts_of(NAMES, [3]))
    pair.wait_until_standby_has_all()
    promoted = pair.fail_over(settings)
    with pytest.raises(OutboxNotEmptyError, match=COMMAND):
        run(promoted, Event())
    assert sum(rebuild(promoted, quiet, dry_run=False).missing.values()) == len(waiting)
    assert rebuild(promoted, quiet, dry_run=False).nothing_to_do
    goes_on(promoted, facts + waiting)


def test_a_standby_that_lacks_what_was_published_is_refused(pair: Pair, settings: Settings) -> None:
    facts = facts_of(NAMES, [1, 2])
    with published(settings, facts):
        pair.sync_slot(settings.relay_slot)
    pair.wait_until_standby_has_all()
    pair.standby.process.send_signal(signal.SIGQUIT)
    pair.standby.process.wait(10)
    with relay_in_thread(settings):
        forgotten = commit(settings, facts_of(["slo-3"], [3]))
        wait_for_facts(settings.kafka_bootstrap_servers, facts + forgotten)
    pair.primary.process.kill()
    pair.primary.process.wait(10)
    pair.standby = start_postgres(pair.standby.directory, pair.standby.port, {"hot_standby_feedback": "on"})
    promoted = pair.fail_over(settings)
    with pytest.raises(WatermarkError, match=f"the database was set back to .*: {COMMAND}"):
        run(promoted, Event())
    with pytest.raises(ForgottenError, match="1 aggregates, slo acme/slo-3 from version 3; "):
        rebuild(promoted, quiet, dry_run=False)
