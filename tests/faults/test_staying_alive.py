"""A worker that stands still ends, one that waits does not, and each of them says which it is; SIGTERM ends all in time."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest
from confluent_kafka import Producer

from tests.faults.workload import workload
from tests.support.probes import ask, committed, listen_somewhere, members
from tests.support.system import SESSION_TIMEOUT_SECONDS, System, running_system, wait_until
from worker.devstack.apache_kafka import start_kafka, stop_kafka
from worker.devstack.postgres import start_postgres, stop_postgres
from worker.domain.aggregate import AGGREGATES
from worker.settings import KafkaSettings
from worker.topic_admin import make_topics
from worker.topics import topic_specs

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from worker.client import Outgoing
    from worker.devstack.apache_kafka import KafkaBroker
    from worker.devstack.postgres import PostgresServer

pytestmark = pytest.mark.timeout(300)

STOP_SECONDS = 15  # the worker gives itself ten
MAX_QUEUED_BYTES = 20 * 2**20


@pytest.fixture
def system(kafka: str, database: str, topics: tuple[str, ...], tmp_path: Path) -> Iterator[System]:  # noqa: ARG001 - made, then used by name
    with running_system(kafka, database, tmp_path) as running:
        yield running


@pytest.fixture
def own_system(kafka_server: KafkaBroker, postgres_server: PostgresServer, tmp_path: Path) -> Iterator[System]:
    """On servers that the test may stop."""
    logs = tmp_path / "logs"
    logs.mkdir()
    with running_system(kafka_server.bootstrap_servers, postgres_server.dsn, logs) as running:
        yield running


def wait_for_state(port: int, state: str, system: System) -> None:
    wait_until(
        lambda: (answer := ask(port, "/readyz")).status == 200 and answer.state == state,
        60,
        lambda: f"{ask(port, '/readyz')}{system.logs()}",
    )


@pytest.mark.parametrize("where", ["event loop", "batch", "fetcher", "consumer thread"])
def test_a_worker_that_stands_still_ends_and_its_successor_goes_on(system: System, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    monkeypatch.setenv("STANDS_STILL", where)
    port = listen_somewhere(monkeypatch)
    worker = system.start("worker", broken="stands_still")
    wait_for_state(port, "active", system)
    assert ask(port, "/livez").status == 200
    records, outcomes = workload(200)
    for start in range(0, len(records), 20):  # so that there is more to fetch, wherever it stands
        system.publish(records[start : start + 20])
    wait_until(lambda: ask(port, "/readyz").status == 503, 30, lambda: f"{ask(port, '/readyz')}{system.logs()}")
    if where in ("event loop", "consumer thread"):
        wait_until(lambda: ask(port, "/livez").status == 503, 30, system.logs)
    assert worker.wait(40) == 70, system.logs()
    assert len([line for line in system.log("worker").read_text().splitlines() if " CRITICAL " in line]) == 1
    system.start("worker")
    system.wait_for_outcomes(outcomes)
    assert system.count("inbox") == outcomes


def test_a_worker_with_nothing_to_do_or_that_was_paused_goes_on(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    port = listen_somewhere(monkeypatch)
    worker = system.start("worker", broken="watched_closely")
    wait_for_state(port, "active", system)
    records, outcomes = workload(400)
    publish_in_transaction(system, records[:200])  # the markers at the end are offsets at which nothing is to be decided
    wait_until(lambda: sum(positions(system).values()) >= 200, 60, system.logs)
    assert runs_for(worker, 6), system.logs()
    assert ask(port, "/readyz").status == 200
    worker.send_signal(signal.SIGSTOP)
    system.publish(records[200:])
    time.sleep(6)
    worker.send_signal(signal.SIGCONT)
    system.wait_for_outcomes(outcomes)
    assert runs_for(worker, 2), system.logs()
    wait_for_state(port, "active", system)


def publish_in_transaction(system: System, records: list[Outgoing]) -> None:
    producer = Producer({"bootstrap.servers": system.settings.kafka_bootstrap_servers, "transactional.id": "tests"})
    producer.init_transactions()
    producer.begin_transaction()
    for record in records:
        producer.produce(record.topic, record.value, record.key, headers=list(record.headers))
    producer.commit_transaction()


def positions(system: System) -> dict[tuple[str, int], int]:
    """What is decided, by topic and partition."""
    with psycopg.connect(system.settings.writer_dsn) as connection:
        rows = connection.execute("SELECT topic, partition, next_offset FROM intake_position").fetchall()
    return {(topic, partition): offset for topic, partition, offset in rows}


def runs_for(worker: subprocess.Popen[bytes], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while worker.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    return worker.poll() is None


def test_a_stopped_worker_has_committed_what_it_decided_and_hands_its_partitions_over_at_once(system: System) -> None:
    records, outcomes = workload(12_000)
    stopped = system.start("worker")
    wait_until(lambda: len(members(system.settings)) == 1, 60, system.logs)
    other = system.start("worker")
    wait_until(lambda: len(members(system.settings)) == 2, 60, system.logs)
    system.publish(records)
    system.wait_for_outcomes(outcomes // 4)
    asked = time.monotonic()
    stopped.terminate()
    wait_until(lambda: len(members(system.settings)) == 1, 30, system.logs)
    assert time.monotonic() - asked < SESSION_TIMEOUT_SECONDS
    assert stopped.wait(STOP_SECONDS) == 0
    system.wait_for_outcomes(outcomes)
    other.terminate()
    assert other.wait(STOP_SECONDS) == 0
    assert system.count("inbox") == outcomes
    assert committed(system.settings) == positions(system), system.logs()


def test_a_busy_worker_that_is_stopped_leaves_nothing_decided_that_comes_again(system: System) -> None:
    records, outcomes = workload(12_000)
    system.publish(records)
    worker = system.start("worker")
    system.wait_for_outcomes(outcomes // 4)
    worker.terminate()
    assert worker.wait(STOP_SECONDS) == 0
    assert system.count("inbox") < outcomes
    assert committed(system.settings) == positions(system), system.logs()


def test_a_worker_without_partitions_is_ready_to_take_over(
    kafka_server: KafkaBroker, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    make_topics(KafkaSettings(kafka_bootstrap_servers=kafka_server.bootstrap_servers), topic_specs(tuple(AGGREGATES)), partitions=1)
    with running_system(kafka_server.bootstrap_servers, database, logs) as system:
        first = listen_somewhere(monkeypatch)
        worker = system.start("worker", broken="one_topic")
        wait_for_state(first, "active", system)
        second = listen_somewhere(monkeypatch)
        system.start("worker", broken="one_topic")
        wait_until(
            lambda: {ask(first, "/readyz")[:2], ask(second, "/readyz")[:2]} == {(200, "active"), (200, "standing by")}, 60, system.logs
        )
        worker.terminate()
        wait_for_state(second, "active", system)


def test_a_worker_without_its_servers_says_so_and_stops_in_time(
    own_system: System, kafka_server: KafkaBroker, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = listen_somewhere(monkeypatch)

    worker = own_system.start("worker")
    wait_for_state(port, "active", own_system)
    stop_postgres(postgres_server)
    wait_until(lambda: (told := ask(port, "/readyz")).status == 503 and "connection" in told.reasons[0], 30, own_system.logs)
    assert ask(port, "/livez").status == 200
    postgres = start_postgres(postgres_server.directory, postgres_server.port)
    try:
        wait_for_state(port, "active", own_system)
        records, _ = workload(40_000)
        threading.Thread(target=own_system.publish, args=(records,), daemon=True).start()
        own_system.wait_for_outcomes(1_000)
        stop_postgres(postgres)
        wait_until(lambda: ask(port, "/readyz").state == "waiting", 30, own_system.logs)
        assert seconds_to_stop(worker) < STOP_SECONDS
        assert worker.returncode == 0, own_system.logs()

        worker = own_system.start("worker")
        wait_until(lambda: ask(port, "/readyz").state == "waiting", 60, own_system.logs)
        worker.terminate()
        wait_until(lambda: ask(port, "/readyz").state == "stopping", 10, own_system.logs)
        worker.terminate()
        assert worker.wait(3) == -signal.SIGTERM  # whoever asks twice does not wait

        postgres = start_postgres(postgres_server.directory, postgres_server.port)
        worker = own_system.start("worker")
        own_system.wait_for_outcomes(own_system.count("inbox") + 500)
        stop_kafka(kafka_server)
        wait_until(lambda: ask(port, "/readyz").status == 503, 60, own_system.logs)
        assert seconds_to_stop(worker) < STOP_SECONDS
        assert worker.returncode == 0, own_system.logs()
    finally:
        stop_postgres(postgres)


def test_servers_that_hang_do_not_hold_up_a_stop(
    own_system: System, kafka_server: KafkaBroker, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, outcomes = workload(16_000)
    own_system.publish(records)
    for number, server in enumerate((postgres_server.pid, kafka_server.pid), start=1):
        worker, relay = own_system.start("worker"), own_system.start("relay")
        own_system.wait_for_outcomes(outcomes * number // 4)
        with hanging(server):
            assert seconds_to_stop(worker, relay) < STOP_SECONDS
            assert (worker.returncode, relay.returncode) == (0, 0), own_system.logs()
    with hanging(kafka_server.pid), monkeypatch.context() as listening:
        port = listen_somewhere(listening)
        worker = own_system.start("worker")
        wait_until(lambda: ask(port, "/livez").state == "waiting for Kafka", 30, own_system.logs)
        assert seconds_to_stop(worker) < STOP_SECONDS
        assert worker.returncode == 0, own_system.logs()
    own_system.start("relay")
    own_system.start("worker")
    own_system.wait_for_outcomes(outcomes)
    own_system.wait_until_published()
    assert own_system.breaches() == []


@contextmanager
def hanging(pid: int) -> Iterator[None]:
    """A server that takes connections, since the kernel does, and answers nothing."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in family:
        process.suspend()
    try:
        yield
    finally:
        for process in family:
            process.resume()


def seconds_to_stop(*processes: subprocess.Popen[bytes]) -> float:
    asked = time.monotonic()
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait(60)
    return time.monotonic() - asked


def test_a_server_that_is_silent_in_the_middle_of_a_batch_costs_nothing(system: System) -> None:
    records, outcomes = workload(4_000)
    system.publish(records)
    system.start("relay")
    worker = system.start("worker", broken="impatient")
    system.wait_for_outcomes(outcomes // 4)
    backends = worker_backends(system)
    for pid in backends:
        os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: "did not answer within 2 s" in system.log("worker").read_text(), 30, system.logs)
    finally:
        for pid in backends:
            os.kill(pid, signal.SIGCONT)
    system.wait_for_outcomes(outcomes)
    system.wait_until_published()
    assert worker.poll() is None
    assert system.breaches() == []
    assert system.breaches(system.seen) == []


def worker_backends(system: System) -> list[int]:
    with psycopg.connect(system.settings.writer_dsn) as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'sre-domain worker'"
        ).fetchall()
    return [pid for (pid,) in rows]


def test_postgres_and_kafka_are_killed_in_the_middle_of_batches(
    own_system: System, kafka_server: KafkaBroker, postgres_server: PostgresServer
) -> None:
    records, outcomes = workload(16_000)
    own_system.publish(records)
    own_system.start("relay")
    own_system.start("worker")
    postgres, kafka = postgres_server, kafka_server
    try:
        for part in range(1, 4):
            own_system.wait_for_outcomes(outcomes * part // 5)
            kill_postgres(postgres)
            postgres = start_postgres(postgres.directory, postgres.port)
        own_system.wait_for_outcomes(outcomes * 4 // 5)
        kafka.process.kill()
        kafka.process.wait()
        kafka = start_kafka(kafka.directory, kafka.port, kafka.controller_port)
        own_system.wait_for_outcomes(outcomes)
        own_system.wait_until_published()
        assert own_system.breaches() == []
        assert own_system.breaches(own_system.seen) == []
    finally:
        own_system.end()
        stop_postgres(postgres)
        stop_kafka(kafka)


def kill_postgres(server: PostgresServer) -> None:
    """Kill -9 of the postmaster and all of its children at once: nobody is left to finish anything."""
    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    for process in family:
        process.kill()
    server.process.wait()
    psutil.wait_procs(family[1:], timeout=10)


@pytest.mark.parametrize(("count", "value_bytes", "mebibytes"), [(100_000, 200, 176), (400, 1_000_000, 260)], ids=["many", "large"])
def test_memory_is_bounded_whatever_the_lag(system: System, count: int, value_bytes: int, mebibytes: int) -> None:
    """Measured, of many: 158, 190 with no limit for what is polled. Of large: 225, 285 with none for batches, 493 with none for fetches."""
    producer = Producer({"bootstrap.servers": system.settings.kafka_bootstrap_servers, "message.max.bytes": 2_000_000})
    value = os.urandom(value_bytes)
    for number in range(count):
        producer.produce("sre.slo.intents.v1", value, f"slo-{number}".encode())
        while len(producer) > MAX_QUEUED_BYTES // value_bytes:
            producer.poll(0.1)
    producer.flush()
    system.stopping.set()  # the watching reader would hold what is refused
    worker = system.start("worker")
    peak = 0

    def decided() -> bool:
        nonlocal peak
        peak = max(peak, psutil.Process(worker.pid).memory_info().rss)
        return sum(positions(system).values()) >= count

    wait_until(decided, 240, lambda: f"{sum(positions(system).values())} of {count} are decided {system.logs()}")
    assert peak >> 20 < mebibytes
