"""The harness itself: its schedule and its proxy, and one short run of everything that leaves build/faults.json."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from pydantic import SecretStr

from tests.faults.harness import watcher as watching
from tests.faults.harness.acknowledged import Acknowledged, Comparison, Unplaced, fingerprint
from tests.faults.harness.checker import _outcomes_of_what_lies_at
from tests.faults.harness.intents import publications
from tests.faults.harness.proxy import Mode, RunningProxy, Way, running_proxy
from tests.faults.harness.run import Plan, too_little
from tests.faults.harness.schedule import Kind, schedule
from tests.faults.harness.watcher import Trail, Versions, Watcher
from tests.support.kafka import require_java_and_maven
from tests.support.records import CODEC, create
from worker.bus import BusError
from worker.client import Intent, publish, to_outgoing
from worker.devstack.processes import LOOPBACK, free_port
from worker.envelope import Record
from worker.partitioner import partition_of
from worker.settings import Settings
from worker.topic_admin import partition_counts

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SEED = 2


def test_one_seed_is_one_schedule() -> None:
    def plan(seed: int) -> object:
        return schedule(seed, seconds=40, every_seconds=4, kinds=set(Kind))

    assert plan(1) == plan(1)
    assert plan(1) != plan(2)


def test_a_schedule_fills_its_time_and_repeats_no_kind_before_all_were_due() -> None:
    faults = schedule(3, seconds=4 * len(Kind), every_seconds=4, kinds=set(Kind))
    assert Counter(fault.kind for fault in faults) == dict.fromkeys(Kind, 1)
    assert [int(fault.at // 4) for fault in faults] == list(range(len(Kind)))


def test_one_seed_asks_for_the_same() -> None:
    def asked(seed: int) -> list[tuple[str, bytes | None, str]]:
        stream = publications(seed, tenants=2, slos=3)
        return [(one.topic, one.key, str(dict(one.headers)["ce_id"])) for one, _ in zip(stream, range(200), strict=False)]

    assert asked(1) == asked(1)
    assert asked(1) != asked(2)
    assert len({topic for topic, _, _ in asked(1)}) == 6


def test_what_lies_in_a_topic_is_held_against_what_was_acknowledged() -> None:
    stream = publications(1, tenants=1, slos=2)
    one, other = next(stream), next(stream)
    acknowledged = Acknowledged()
    for offset in (0, 3, 2, 5):
        acknowledged.note("a", 0, offset, fingerprint(one))
    third = next(stream)
    acknowledged.unplaced[fingerprint(third)] = Unplaced("third", None)
    acknowledged.unplaced[fingerprint(next(stream))] = Unplaced("never there", None)
    comparison = Comparison(acknowledged)
    for offset, found in ((0, one), (1, other), (2, other), (3, one), (4, third)):
        comparison.see(Record("a", 0, offset, 0, found.key, found.value, found.headers))
    comparison.end()
    assert acknowledged.count == 5
    assert comparison.without_place == ["never there"]
    assert comparison.breaches == [
        "client: a[0]@2 is not what was acknowledged there",
        "client: acknowledged, and not in its topic: a[0]@5",
    ]


def test_an_outcome_at_an_unknown_copy_counts_for_the_place_that_is_known(kafka: str, database: str, topics: tuple[str, ...]) -> None:
    assert topics
    settings = Settings(kafka_bootstrap_servers=kafka, database_url=SecretStr(database))
    one, other = (to_outgoing(Intent("CreateSLORequested", "acme", "a", create(), "/tests", name), CODEC) for name in ("one", "other"))
    publish(settings, [one, one, other])
    lies = partition_of(one.key, partition_counts(settings, [one.topic])[one.topic])
    with psycopg.connect(database) as connection:
        connection.execute(
            'INSERT INTO inbox (tenant_id, intent_key, intent_id, ce_time, content_hash, topic, partition, "offset", outcome)'
            " VALUES ('acme', gen_random_uuid(), 'one', now(), '', %s, %s, 0, 'no_change')",
            [one.topic, lies],
        )
    found = [_outcomes_of_what_lies_at(settings, one.topic, lies, offset) for offset in (0, 1, 2)]
    assert found == [1, 1, 0]


def test_a_gap_and_a_double_of_a_version_are_seen_as_they_come() -> None:
    versions = Versions()
    for version in (b"1", b"2", b"4", b"4"):
        versions.note(
            {"ce_aggregatetype": b"slo", "ce_tenantid": b"acme", "ce_aggregateid": b"checkout", "ce_aggregateversion": version},
        )
    assert versions.gaps == ["slo/acme/checkout version 4 after 2"]
    assert versions.doubles == ["slo/acme/checkout version 4 after 4"]


def test_two_readers_that_saw_other_records_or_another_order_differ() -> None:
    trails = [Trail(), Trail(), Trail()]
    for trail, order in zip(trails, ("ab", "ab", "ba"), strict=True):
        for offset, content in enumerate(order):
            trail.note(("a", 0), offset, content)
    assert trails[0].differences(trails[1]) == []
    assert len(trails[0].differences(trails[2])) == 1


class Echo:
    """A server that says back what it hears, and how much of it came."""

    def __init__(self) -> None:
        self.port = free_port()
        self.heard = 0
        self._server = socket.create_server((LOOPBACK, self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while heard := connection.recv(65_536):
                    self.heard += len(heard)
                    connection.sendall(heard)
            except OSError:
                return

    def close(self) -> None:
        self._server.close()


@contextmanager
def proxied() -> Iterator[tuple[Echo, RunningProxy]]:
    echo = Echo()
    try:
        with running_proxy(free_port(), echo.port) as proxy:
            yield echo, proxy
    finally:
        echo.close()


def connect(proxy: RunningProxy) -> socket.socket:
    return socket.create_connection((LOOPBACK, proxy.port), timeout=5)


def answer(client: socket.socket, question: bytes) -> bytes:
    client.sendall(question)
    heard = b""
    while len(heard) < len(question) and (part := client.recv(65_536)):
        heard += part
    return heard


def test_the_proxy_passes_on_what_it_hears_and_fails_as_it_is_told() -> None:
    with proxied() as (echo, proxy), connect(proxy) as client:
        assert answer(client, b"x" * 300_000) == b"x" * 300_000

        proxy.switch(Mode(way=Way.LATENCY, seconds=0.2))
        began = time.monotonic()
        assert answer(client, b"late") == b"late"
        assert time.monotonic() - began >= 0.4

        proxy.switch(Mode(way=Way.BLACKHOLE))
        with connect(proxy) as accepted:
            for one in (client, accepted):
                one.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    answer(one, b"lost?")
            heard = echo.heard
            proxy.switch(Mode())
            for one in (client, accepted):
                one.settimeout(5)
                assert one.recv(5) == b"lost?"
            assert echo.heard == heard + 10

        proxy.switch(Mode(way=Way.RESET))
        with pytest.raises(ConnectionResetError):
            answer(client, b"again")
        with connect(proxy) as refused, pytest.raises(ConnectionResetError):
            answer(refused, b"again")

        proxy.switch(Mode(way=Way.CUT, size=15))
        with connect(proxy) as cut:
            assert answer(cut, b"0123456789") == b"01234"
            assert cut.recv(1) == b""

        proxy.switch(Mode())
        with connect(proxy) as after:
            assert answer(after, b"well") == b"well"


@pytest.mark.timeout(280)
def test_a_short_run_with_faults_loses_doubles_and_breaks_nothing() -> None:
    require_java_and_maven()
    command = [sys.executable, "-m", "tests.faults.harness", "faults", "--seeds", str(SEED), "--seconds", "25", "--every", "3"]
    ran = subprocess.run(command, cwd=ROOT, env={**os.environ, "COLUMNS": "140"}, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-4000:]
    report = json.loads((ROOT / "build" / "faults.json").read_text(encoding="utf-8"))
    assert report["seeds"] == [SEED]
    assert report["faults"] == sum(report["faults_by_kind"].values()) == 8
    assert report["outcomes"] > 3_000
    assert report["acknowledged"] > 3_000
    assert [report[name] for name in ("losses", "doubles", "gaps", "breaches")] == [0, 0, 0, []]
    assert 0 < report["longest_stall_seconds"] < 60


def test_a_reader_whose_kafka_is_away_when_it_begins_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that loses it later has ended: what it missed is not to be read twice."""
    told: list[str] = []
    seen = Watcher(Settings(kafka_bootstrap_servers="127.0.0.1:1", database_url=SecretStr("postgresql://")), topics=["facts"])

    def read(*_: object, **__: object) -> Iterator[object]:
        told.append("began")
        if len(told) == 2:
            yield from ["first", "second"]
        raise BusError("Kafka is away")

    monkeypatch.setattr(watching, "read_committed", read)
    monkeypatch.setattr(watching, "note", lambda trail, _versions, message: trail.note(("facts", 0), len(trail.digests), message))
    seen.run()
    assert told == ["began", "began"]
    assert (seen.trail.count, type(seen.ended_by)) == (2, BusError)


def test_a_client_that_was_stuck_is_a_breach() -> None:
    plan = Plan(seed=1, seconds=60, rate=250, faults=())
    assert too_little(5_999, plan) == ["load: 5999 acknowledged of the 15000 to be asked"]
    assert too_little(6_000, plan) == []
