"""`make bench-debezium`: the relay beside a real Debezium, exactly-once on both, on the same rows; left in build/bench-debezium.json.

Both are alive throughout and take turns, so that a drift of the machine's speed meets them alike; who is not measured is held back.
Cold counts the processor's time from the start of the process on, warm that of a later drain by the same process, the best of a few.
Debezium runs with the files of examples/debezium, in a tuned JVM; the broker's is as in production, unlike the development stack's. Figures
are of this machine; only the ratios travel.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import psutil
import psycopg
import typer
from confluent_kafka import Consumer, TopicPartition
from psycopg.conninfo import make_conninfo
from rich.console import Console
from rich.table import Table

from tests.support.kafka_connect import KafkaConnect, connector, running_connect
from worker.devstack.apache_kafka import BrokerChanges, start_kafka, stop_kafka
from worker.devstack.logins import RELAY, login, make_logins
from worker.devstack.postgres import running_postgres
from worker.domain.aggregate import AGGREGATES
from worker.postgres.migrate import migrate
from worker.relay import replication
from worker.relay.slot import ensure_slot
from worker.settings import Settings
from worker.topic_admin import make_topics
from worker.topics import PARTITIONS, facts_topic, topic_specs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.relay.replication import ReplicationStream

_TOPIC: Final = facts_topic("slo")
_ROWS_A_TRANSACTION: Final = 100
_PAYLOAD_BYTES: Final = 300
_LANES: Final = 4
_WARM_UP_SECONDS: Final = 3
_GIVE_UP_SECONDS: Final = 300
# A broker as Kafka's own bin/kafka-server-start.sh starts it; the development stack's options are for a quick start.
_G1: Final = ("-XX:-UseSerialGC", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35")
_BROKER: Final = BrokerChanges(java_options=("-XX:TieredStopAtLevel=4", "-Xms1g", "-Xmx1g", *_G1))
_TUNED_JAVA: Final = ("-server", "-Xms2g", "-Xmx2g", "-XX:+UseParallelGC")
_CONNECTOR: Final = "sre-outbox"
# Facts of a thousand aggregates; the payload begins with the row's number.
_INSERT: Final = f"""
    INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, topic, key, partition, tenant_id, aggregate_version,
                        ce_time, subject, correlation_id, causation_id, traceparent)
    SELECT gen_random_uuid(), 'slo', 'slo-' || n %% 1000, 'sre.core.v1.SLIWindowRecorded',
           int8send(n) || decode(rpad('', 2 * {_PAYLOAD_BYTES - 8}, md5(n::text)), 'hex'), '{_TOPIC}',
           convert_to('acme/slo-' || n %% 1000 || '/' || n / 1000 + 1, 'UTF8'), n %% {PARTITIONS}, 'acme', n / 1000 + 1,
           '2026-03-02T12:00:00.000000Z', 'slo-' || n %% 1000, 'correlation-' || n, 'intent-' || n,
           '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
    FROM generate_series(%s::bigint, %s::bigint) AS n
"""  # noqa: S608 - constants


class Contender(Protocol):
    """A process that empties the outbox of a database of its own, unless it is held back."""

    @property
    def name(self) -> str: ...
    @property
    def dsn(self) -> str: ...
    @property
    def pid(self) -> int: ...
    def hold(self) -> None: ...
    def release(self) -> None: ...


@dataclass
class Relay:
    """Held back by whoever has its slot meanwhile: it stands by then."""

    dsn: str
    pid: int
    name: str = "relay"
    blocking: list[ReplicationStream] = field(default_factory=list)

    def hold(self) -> None:
        while not self.blocking:
            with psycopg.connect(self.dsn) as connection:
                connection.execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s", [self.name])
            connection = replication.connect(self.dsn)
            try:
                self.blocking.append(replication.start(connection, self.name))
            except psycopg.errors.ObjectInUse:
                connection.close()

    def release(self) -> None:
        while self.blocking:
            self.blocking.pop().close()

    @contextmanager
    def kept_waiting(self) -> Iterator[None]:
        """Answer the server as long as the slot is held."""
        over = threading.Event()

        def answer() -> None:
            while not over.wait(1):
                for stream in self.blocking:
                    list(stream.pending())

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield
        over.set()
        thread.join()


@dataclass
class Debezium:
    """Held back by Kafka Connect."""

    dsn: str
    connect: KafkaConnect
    name: str = "debezium"

    @property
    def pid(self) -> int:
        return self.connect.process.pid

    def hold(self) -> None:
        self.connect.stop(_CONNECTOR)

    def release(self) -> None:
        self.connect.request("PUT", f"/connectors/{_CONNECTOR}/resume")


def main(
    rows: int = 200_000,
    warm_runs: int = 4,
    rate: int = 1_000,
    seconds: int = 10,
    latency_runs: int = 4,
    out: Path = Path("build/bench-debezium.json"),
) -> None:
    """Drain ROWS cold and WARM_RUNS times warm, then measure latency at RATE rows a second, LATENCY_RUNS times for SECONDS."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sre-bench-")))
        directory.chmod(0o755)
        broker = start_kafka(directory / "kafka", changes=_BROKER)
        stack.callback(stop_kafka, broker)
        kafka = broker.bootstrap_servers
        postgres = stack.enter_context(running_postgres(directory / "postgres")).dsn
        make_topics(Settings(kafka_bootstrap_servers=kafka, database_url=postgres), topic_specs(tuple(AGGREGATES)))
        dsns = {name: outbox_of(postgres, name) for name in ("relay", "debezium")}
        measured: dict[str, dict[str, Any]] = {}

        preload(dsns["relay"], rows)
        facts = facts_from_now(kafka)
        relay = stack.enter_context(running_relay(kafka, dsns["relay"], directory))
        measured["relay"] = {"cold": drained(relay, facts, rows, cpu_before=0)}
        relay.hold()

        preload(dsns["debezium"], rows)
        facts = facts_from_now(kafka)
        connect = stack.enter_context(running_connect(kafka, dsns["debezium"], directory / "connect", _TUNED_JAVA))
        debezium = Debezium(dsns["debezium"], connect)
        connect.start(_CONNECTOR, connector(debezium.dsn, debezium.name))
        measured["debezium"] = {"cold": drained(debezium, facts, rows, cpu_before=0)}
        debezium.hold()

        contenders: tuple[Contender, ...] = (relay, debezium)
        for number in range(warm_runs):
            for contender in contenders:
                preload(contender.dsn, rows)
                facts, before = facts_from_now(kafka), cpu_seconds(contender.pid)
                contender.release()
                measured[contender.name].setdefault("warm", []).append(drained(contender, facts, rows, before))
                contender.hold()
                print(f"{contender.name}, drain {number + 1}: {measured[contender.name]['warm'][-1]}", file=sys.stderr)
        waits: dict[str, list[float]] = {contender.name: [] for contender in contenders}
        for number in range(latency_runs):
            for contender in contenders:
                facts = facts_from_now(kafka)
                contender.release()
                preload(contender.dsn, 1)
                next(facts)  # it is at work
                waits[contender.name] += (run := latencies_ms(kafka, contender.dsn, rate, seconds))
                measured[contender.name]["resident_mib"] = round(psutil.Process(contender.pid).memory_info().rss / 2**20)
                contender.hold()
                print(f"{contender.name}, latency {number + 1}: {quantiles(run)}", file=sys.stderr)
        for contender in contenders:
            measured[contender.name]["latency_ms"] = quantiles(waits[contender.name])
        relay.release()
    figures = summary(measured, rows, rate)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=2) + "\n")
    show(figures)


def outbox_of(superuser_dsn: str, name: str) -> str:
    """A migrated database with a slot of the same name; the DSN is the relay's."""
    with psycopg.connect(superuser_dsn, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
    dsn = make_conninfo(superuser_dsn, dbname=name)
    migrate(dsn)
    make_logins(dsn)
    with psycopg.connect(dsn) as admin:
        admin.execute("GRANT INSERT ON outbox TO sre_relay")
    ensure_slot(dsn, name)
    return login(dsn, RELAY)


@contextmanager
def running_relay(kafka: str, dsn: str, directory: Path) -> Iterator[Relay]:
    environment = {"SRE_KAFKA_BOOTSTRAP_SERVERS": kafka, "SRE_DATABASE_URL": dsn, "SRE_RELAY_SLOT": "relay"}
    with (directory / "relay.log").open("a") as log:
        process = subprocess.Popen([sys.executable, "-m", "worker", "relay"], env={**os.environ, **environment}, stdout=log, stderr=log)
    relay = Relay(dsn, process.pid)
    try:
        with relay.kept_waiting():
            yield relay
    finally:
        process.terminate()
        process.wait(30)


def preload(dsn: str, rows: int) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for first in range(0, rows, _ROWS_A_TRANSACTION):
            connection.execute(_INSERT.encode(), [first, min(first + _ROWS_A_TRANSACTION, rows) - 1])


def drained(contender: Contender, facts: Iterator[int], rows: int, cpu_before: float) -> dict[str, float]:
    """Rows a second from the first fact that a reader sees to the last, and processor seconds for 100,000 rows."""
    seen = first = next(facts)
    began = time.perf_counter()
    while seen < rows:
        if time.perf_counter() - began > _GIVE_UP_SECONDS:
            raise SystemExit(f"{contender.name}: only {seen} of {rows} facts came")
        seen += next(facts)
    elapsed = time.perf_counter() - began
    if seen != rows:
        raise SystemExit(f"{contender.name}: {seen} facts of {rows} rows")
    used = cpu_seconds(contender.pid) - cpu_before
    return {"rows_per_second": round((rows - first) / max(elapsed, 1e-9)), "cpu_seconds_per_100k": round(used / rows * 100_000, 2)}


def facts_from_now(kafka: str) -> Iterator[int]:
    """How many facts came, each time that was asked; reading starts before this returns."""
    consumer = reader(kafka)

    def counts() -> Iterator[int]:
        while True:
            count = sum(message.error() is None for message in consumer.consume(5_000, 0.05))
            if count:
                yield count

    return counts()


def reader(kafka: str) -> Consumer:
    """Of what is committed from now on."""
    config = {"bootstrap.servers": kafka, "group.id": "bench", "enable.auto.commit": False, "isolation.level": "read_committed"}
    consumer = Consumer(config | {"fetch.wait.max.ms": 10, "log_level": 0})
    places = [TopicPartition(_TOPIC, number) for number in range(PARTITIONS)]
    consumer.assign([TopicPartition(_TOPIC, place.partition, consumer.get_watermark_offsets(place, 20)[1]) for place in places])
    return consumer


def cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def latencies_ms(kafka: str, dsn: str, rate: int, seconds: int) -> list[float]:
    """From the return of a row's commit to a reader's sight of its fact, at a steady rate of transactions of one row."""
    total = rate * (_WARM_UP_SECONDS + seconds)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as processes:
        reading = processes.submit(read_times, kafka, total)
        committed = dict(processes.submit(commit_times, dsn, rate, total).result())
        seen = dict(reading.result())
    return [1_000 * (seen[number] - committed[number]) for number in range(rate * _WARM_UP_SECONDS, total)]


def quantiles(waits: list[float]) -> dict[str, float]:
    waits = sorted(waits)
    return {"p50": round(waits[len(waits) // 2], 2), "p99": round(waits[len(waits) * 99 // 100], 2), "max": round(waits[-1], 2)}


def commit_times(dsn: str, rate: int, total: int) -> list[tuple[int, float]]:
    """Insert at the times that the rate gives, whether or not the ones before were slow."""
    done: list[tuple[int, float]] = []
    began = time.time() + 2  # by then the reader reads

    def lane(number: int) -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            for row in range(number, total, _LANES):
                time.sleep(max(0, began + row / rate - time.time()))
                connection.execute(_INSERT.encode(), [row, row])
                done.append((row, time.time()))

    lanes = [threading.Thread(target=lane, args=[number]) for number in range(_LANES)]
    for each in lanes:
        each.start()
    for each in lanes:
        each.join()
    return done


def read_times(kafka: str, total: int) -> list[tuple[int, float]]:
    consumer, seen = reader(kafka), list[tuple[int, float]]()
    deadline = time.monotonic() + _GIVE_UP_SECONDS
    while len(seen) < total and time.monotonic() < deadline:
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            seen.append((int.from_bytes((message.value() or b"")[:8], "big"), time.time()))
    return seen


def summary(measured: dict[str, dict[str, Any]], rows: int, rate: int) -> dict[str, Any]:
    def cheapest(name: str) -> dict[str, float]:
        best: dict[str, float] = min(measured[name]["warm"], key=lambda run: float(run["cpu_seconds_per_100k"]))
        return best

    def ratio(kind: str) -> float:
        of = {name: cheapest(name) if kind == "warm" else measured[name]["cold"] for name in measured}
        return round(of["debezium"]["cpu_seconds_per_100k"] / of["relay"]["cpu_seconds_per_100k"], 2)

    return {
        "rows": rows,
        "payload_bytes": _PAYLOAD_BYTES,
        "rows_a_transaction": _ROWS_A_TRANSACTION,
        "latency_rows_per_second": rate,
        "java": " ".join(_TUNED_JAVA),
        "relay_vs_debezium_rows_per_cpu_second_warm": ratio("warm"),
        "relay_vs_debezium_rows_per_cpu_second_cold": ratio("cold"),
        "memory_ratio": round(measured["debezium"]["resident_mib"] / measured["relay"]["resident_mib"], 2),
        "relay_p99_ms": measured["relay"]["latency_ms"]["p99"],
        "debezium_p99_ms": measured["debezium"]["latency_ms"]["p99"],
        **{name: figures | {"warm_best": cheapest(name)} for name, figures in measured.items()},
    }


def show(figures: dict[str, Any]) -> None:
    table = Table(title=f"{figures['rows']} rows of {figures['payload_bytes']} bytes, exactly-once on both")
    for column in ("", "relay", "Debezium", "relay is"):
        table.add_column(column, justify="left" if not column else "right")
    relay, debezium = figures["relay"], figures["debezium"]

    def row(what: str, path: tuple[str, str], verdict: object = "") -> None:
        values = (str(each[path[0]][path[1]]) for each in (relay, debezium))
        table.add_row(what, *values, str(verdict))

    row("rows/s, warm", ("warm_best", "rows_per_second"))
    row("rows/s, cold", ("cold", "rows_per_second"))
    warm, cold = figures["relay_vs_debezium_rows_per_cpu_second_warm"], figures["relay_vs_debezium_rows_per_cpu_second_cold"]
    row("CPU s a 100k rows, warm", ("warm_best", "cpu_seconds_per_100k"), f"{warm} times as cheap")
    row("CPU s a 100k rows, from the start", ("cold", "cpu_seconds_per_100k"), f"{cold} times as cheap")
    row(f"p50 ms at {figures['latency_rows_per_second']} rows/s", ("latency_ms", "p50"))
    row(f"p99 ms at {figures['latency_rows_per_second']} rows/s", ("latency_ms", "p99"))
    smaller = f"{figures['memory_ratio']} times as small"
    table.add_row("resident MiB", str(relay["resident_mib"]), str(debezium["resident_mib"]), smaller)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
