"""Two relays of one slot: one streams, the other stands by; whoever lost the slot or its transaction publishes nothing and stands by.

TAKEOVER_KILLS says how many relays are killed; the times until the other one published are left in build/takeover.json.
"""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from statistics import median
from threading import Event
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
import pytest

from tests.integration.relay.harness import (
    Fact,
    facts_of,
    insert_facts,
    read_facts,
    relay_in_thread,
    relay_process,
    settings_for,
    wait_for_facts,
    wait_until,
)
from tests.support.probes import Answer, ask, listen_somewhere
from worker.relay import watermark
from worker.relay.publisher import Publisher
from worker.relay.replication import ReplicationStream
from worker.relay.slot import make_slot

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.integration.relay.harness import RelayProcess
    from worker.settings import Settings

pytestmark = pytest.mark.usefixtures("topics")

KILLS = int(os.environ.get("TAKEOVER_KILLS", "3"))
TAKEOVER_SECONDS = 15


@pytest.fixture
def settings(kafka: str, database: str) -> Settings:
    made = settings_for(kafka, database)
    make_slot(database, made.relay_slot)
    return made


def insert(settings: Settings, facts: Sequence[Fact]) -> None:
    with psycopg.connect(settings.writer_dsn) as connection:
        insert_facts(connection, facts)


@contextmanager
def two_relays(settings: Settings, directory: Path) -> Iterator[tuple[RelayProcess, RelayProcess]]:
    """The first streams, the second stands by."""
    with relay_process(settings, directory) as active:
        wait_until(lambda: "relaying" in active.log.read_text(), "the first relay streams")
        with relay_process(settings, directory) as standby:
            wait_until(lambda: "standing by" in standby.log.read_text(), "the second relay stands by")
            yield active, standby


def pid_of_streaming(settings: Settings) -> int | None:
    """The process that PostgreSQL streams to."""
    with psycopg.connect(settings.writer_dsn) as connection:
        found = connection.execute(
            "SELECT client_port, inet_server_port() FROM pg_stat_activity JOIN pg_replication_slots ON pid = active_pid"
            " WHERE slot_name = %s",
            [settings.relay_slot],
        ).fetchall()
    assert len(found) <= 1, "two relays stream from one slot"
    ends = [(each.laddr.port, each.raddr.port, each.pid) for each in psutil.net_connections("tcp") if each.laddr and each.raddr]
    # Another connection, open or just closed, may have the same port at this end, and not at the other.
    return next((pid for port, server_port, pid in ends if (port, server_port) in found), None)


def test_one_relay_streams_at_a_time_and_the_other_takes_over_after_a_kill(kafka: str, settings: Settings, tmp_path: Path) -> None:
    versions, facts, seconds = count(1), list[Fact](), list[float]()

    def insert_next() -> None:
        facts.extend(facts_of("abc", [next(versions)]))
        insert(settings, facts[-3:])

    with ExitStack() as running:
        active = running.enter_context(relay_process(settings, tmp_path))
        for _ in range(KILLS):
            wait_until(lambda: pid_of_streaming(settings) is not None, "one relay streams")
            standby = running.enter_context(relay_process(settings, tmp_path))
            wait_until(lambda: "standing by" in standby.log.read_text(), "the other one stands by")  # noqa: B023 - called in this turn
            assert pid_of_streaming(settings) == active.process.pid
            insert_next()  # may or may not be on its way
            active.kill()
            killed = time.monotonic()
            insert_next()
            wait_until(lambda: len(read_facts(kafka)) >= len(facts), "the other relay publishes", TAKEOVER_SECONDS)
            seconds.append(time.monotonic() - killed)
            active = standby
        wait_for_facts(kafka, facts)
    written = Path("build/takeover.json")
    written.parent.mkdir(exist_ok=True)
    written.write_text(json.dumps({"kills": KILLS, "median_seconds": round(median(seconds), 2), "max_seconds": round(max(seconds), 2)}))


def test_the_standby_takes_over_at_once_from_a_relay_that_is_stopped(kafka: str, settings: Settings, tmp_path: Path) -> None:
    facts = facts_of("abc", range(1, 4))
    with two_relays(settings, tmp_path) as (active, standby):
        assert active.stop() == 0
        stopped = time.monotonic()
        insert(settings, facts)
        wait_for_facts(kafka, facts)
        assert time.monotonic() - stopped < 2
        assert standby.process.poll() is None


def test_a_paused_relay_loses_its_slot_publishes_nothing_when_it_wakes_and_stands_by(
    kafka: str, settings: Settings, tmp_path: Path
) -> None:
    before, meanwhile, after = facts_of("abc", range(1, 4)), facts_of("abc", range(4, 400)), facts_of("abc", range(400, 410))
    with two_relays(settings, tmp_path) as (paused, standby):
        insert(settings, before)
        wait_for_facts(kafka, before)
        paused.process.send_signal(signal.SIGSTOP)
        since = time.monotonic()
        insert(settings, meanwhile)  # goes into the paused relay's socket, too, and is there to be published when it wakes
        wait_until(lambda: pid_of_streaming(settings) == standby.process.pid, "the standby has the slot", TAKEOVER_SECONDS)
        wait_for_facts(kafka, before + meanwhile)
        assert time.monotonic() - since < TAKEOVER_SECONDS
        paused.process.send_signal(signal.SIGCONT)
        wait_until(lambda: "standing by" in paused.log.read_text(), "the one that was paused stands by")
        insert(settings, after)
        wait_for_facts(kafka, before + meanwhile + after)
        assert pid_of_streaming(settings) == standby.process.pid
        assert (paused.process.poll(), standby.process.poll()) == (None, None)


def test_a_relay_paused_within_a_transaction_is_fenced_by_its_successor(
    kafka: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a relay that sleeps between its last record and the commit: what it produced must not be seen."""
    facts = facts_of("abc", range(1, 4))
    commit, order = Publisher.commit, list[str]()

    def commit_after_the_successor(self: Publisher, key: bytes, watermark: bytes) -> None:
        if not order:
            order.append("produced")
            self._producer.flush()
            with psycopg.connect(settings.writer_dsn) as connection:  # as PostgreSQL does when nothing is heard of a relay
                connection.execute(
                    "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s", [settings.relay_slot]
                )
            with relay_process(settings, tmp_path) as successor:
                wait_until(lambda: len(read_facts(kafka)) == len(facts), "the successor publishes")
                try:
                    commit(self, key, watermark)
                finally:
                    order.append("committed, or not")
                    assert successor.stop() == 0
        else:
            commit(self, key, watermark)

    monkeypatch.setattr(Publisher, "commit", commit_after_the_successor)
    insert(settings, facts)
    with relay_in_thread(settings):
        wait_until(lambda: len(order) == 2, "the old relay has tried to commit", 60)
        wait_for_facts(kafka, facts)
        insert(settings, facts_of("abc", [4]))
        wait_for_facts(kafka, facts + facts_of("abc", [4]))


def test_a_transaction_that_the_broker_ended_for_its_age_is_published_anew(
    kafka: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(kafka, database, relay_transaction_timeout_seconds=2)
    make_slot(database, settings.relay_slot)
    facts, more = facts_of("abc", range(1, 5)), facts_of("abc", range(5, 8))
    commit, held = Publisher.commit, list[bytes]()

    def commit_late(self: Publisher, key: bytes, watermark: bytes) -> None:
        if not held:
            held.append(watermark)
            self._producer.flush()
            self._waiting.for_call(lambda: time.sleep(5))  # its timeout, and the broker's look-out for such
        commit(self, key, watermark)

    monkeypatch.setattr(Publisher, "commit", commit_late)
    insert(settings, facts)
    with relay_in_thread(settings):
        wait_for_facts(kafka, facts, seconds=20)
        insert(settings, more)
        wait_for_facts(kafka, facts + more, seconds=20)


def test_probes_are_told_who_streams_who_stands_by_and_what_is_waited_for(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = listen_somewhere(monkeypatch)
    with relay_process(settings, tmp_path) as active:
        wait_until(lambda: ask(first, "/readyz") == Answer(200, "active"), "the first relay streams")
        second = listen_somewhere(monkeypatch)
        with relay_process(settings, tmp_path):
            wait_until(lambda: ask(second, "/readyz") == Answer(200, "standing by"), "the second relay stands by")
            assert ask(second, "/livez").status == 200
            assert active.stop() == 0
            wait_until(lambda: ask(second, "/readyz") == Answer(200, "active"), "the second relay streams")
            assert ask(first, "/livez") == Answer(0)


def test_what_a_successor_published_meanwhile_is_no_loss_to_a_relay_that_began(
    kafka: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a relay that is paused at its start: its place is gone, and it reads what the other one wrote."""
    facts = facts_of("abc", range(1, 4))
    read, paused, successor_ended = watermark.read_committed, list[int](), Event()

    def read_late(*given: Any) -> dict[bytes, bytes]:  # noqa: ANN401 - handed on
        if paused:
            return read(*given)
        paused.append(1)
        early = read(*given)
        monkeypatch.setattr(ReplicationStream, "_send_status", lambda _self: None)  # so soon it does not hear of it
        with psycopg.connect(settings.writer_dsn) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s", [settings.relay_slot]
            )
        with relay_process(settings, tmp_path) as successor:
            insert(settings, facts)
            wait_until(lambda: len(read_facts(kafka)) == len(facts), "the successor publishes")
            assert successor.stop() == 0
        successor_ended.set()
        return early  # none yet, although there are records by now

    monkeypatch.setattr("worker.relay.relay.read_committed", read_late)
    with relay_in_thread(settings):
        wait_until(successor_ended.is_set, "the successor has ended")  # or it could publish the next ones, too
        wait_for_facts(kafka, facts)
        insert(settings, facts_of("abc", [4]))
        wait_for_facts(kafka, facts + facts_of("abc", [4]))
