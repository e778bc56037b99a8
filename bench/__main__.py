"""`make bench`: one table, all in one run on Apache Kafka and PostgreSQL, left in build/bench.json.

Figures are of this machine at this moment; only the ratios travel. Each round runs all contenders, so that a drift of the machine's speed
meets them alike, and the table has the median of the rounds. All take the same signed intents; one of them requires the signatures, and
one tells all that it can of itself: it is scraped every second, logs as JSON and exports the spans of the intents that are sampled.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
import typer
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from psycopg.conninfo import make_conninfo
from rich.console import Console
from rich.table import Table

from bench.onlookers import looked_at
from bench.workload import SLOS, intents
from worker.client import publish_as_is
from worker.devstack.apache_kafka import KafkaBroker, running_kafka
from worker.devstack.logins import RELAY, WRITER, login, make_logins
from worker.devstack.postgres import PostgresServer, running_postgres
from worker.domain.aggregate import AGGREGATES
from worker.kafka_config import librdkafka_config
from worker.postgres.migrate import migrate
from worker.postgres.named_sql import statements
from worker.publishing import signed
from worker.relay.slot import ensure_slot
from worker.settings import Settings
from worker.signatures import Signer
from worker.topic_admin import make_topics
from worker.topics import PARTITIONS, TopicSpec, facts_topic, topic_specs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TEXTBOOK_INTENTS = 2_000
_GIVE_UP_SECONDS = 300


KEY: dict[str, Any] = {
    "tenant_id": "acme",
    "principal": "bench",
    "intents": ["CreateSLORequested", "RecordSLIWindowRequested"],
    "actor": None,
    "valid_from": None,
    "valid_until": None,
    "days": 1,
}


@dataclass(frozen=True)
class Machine:
    """What runs for all rounds."""

    kafka: KafkaBroker
    postgres: PostgresServer
    logs: Path
    signer: Signer

    def environment(self, name: str) -> dict[str, str]:
        """Settings of one contender: a consumer group, a slot and a migrated database of its own."""
        with psycopg.connect(self.postgres.dsn, autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name}")
        dsn = make_conninfo(self.postgres.dsn, dbname=name)
        environment = {
            "SRE_KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "SRE_DATABASE_URL": login(dsn, WRITER),
            "SRE_RELAY_DATABASE_URL": login(dsn, RELAY),
            "SRE_CONSUMER_GROUP": name,
            "SRE_RELAY_SLOT": name,
        }
        migrate(dsn)
        make_logins(dsn)
        ensure_slot(dsn, name)
        with psycopg.connect(dsn) as connection:
            connection.execute(statements("keys")["add_key"], KEY | {"public_key": self.signer.public_key})
        return environment

    def start(self, arguments: list[str], environment: Mapping[str, str], log: str) -> subprocess.Popen[str]:
        with (self.logs / log).open("a") as errors:
            return subprocess.Popen(
                [sys.executable, *arguments], env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=errors, text=True
            )


def main(windows: int = 40_000, rounds: int = 3, out: Path = Path("build/bench.json")) -> None:
    """Measure an empty Faust agent, this worker from intent to fact, by default, with signatures, with telemetry, and a textbook worker."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sre-bench-")))
        directory.chmod(0o755)
        kafka = stack.enter_context(running_kafka(directory / "kafka"))
        postgres = stack.enter_context(running_postgres(directory / "postgres"))
        machine = Machine(kafka, postgres, directory, Signer.generate())
        settings = Settings(kafka_bootstrap_servers=kafka.bootstrap_servers, database_url=postgres.dsn)
        make_topics(settings, [*topic_specs(tuple(AGGREGATES)), TopicSpec("bench.textbook.facts")])
        total = publish_as_is(settings, (signed(record, machine.signer) for record in intents(windows)))
        results = [one_round(machine, settings, number, total) for number in range(rounds)]
    figures = summary(results, total)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=2) + "\n")
    show(figures)


def one_round(machine: Machine, settings: Settings, number: int, total: int) -> dict[str, Any]:
    empty = last_line(machine.start(["-m", "bench.empty_faust", str(total)], machine.environment(f"empty_{number}"), "empty.log"))
    ours = end_to_end(machine, settings, machine.environment(f"ours_{number}"), total)
    required = end_to_end(machine, settings, machine.environment(f"signed_{number}") | {"SRE_SIGNATURES": "require"}, total)
    with looked_at() as telemetry:
        told = end_to_end(machine, settings, machine.environment(f"told_{number}"), total, telemetry)
    arguments = ["-m", "bench.textbook", str(_TEXTBOOK_INTENTS)]
    textbook = last_line(machine.start(arguments, machine.environment(f"textbook_{number}"), "textbook.log"))
    return {"empty": empty, "ours": ours, "signed": required, "told": told, "textbook": textbook}


def last_line(process: subprocess.Popen[str]) -> dict[str, float]:
    output, _ = process.communicate(timeout=_GIVE_UP_SECONDS)
    figures: dict[str, float] = json.loads(output.strip().splitlines()[-1])
    return figures


def end_to_end(
    machine: Machine,
    settings: Settings,
    environment: Mapping[str, str],
    total: int,
    telemetry: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
) -> dict[str, Any]:
    """From the first fact that a read_committed reader sees to the last: rate, and CPU microseconds an intent by process.

    `telemetry` has more of the environment, by process.
    """
    processes: dict[str, subprocess.Popen[str]] = {}
    facts = read_facts_from_now(settings)
    try:
        for name in ("relay", "worker"):
            processes[name] = machine.start(["-m", "worker", name], {**environment, **telemetry.get(name, {})}, f"{name}.log")
        pids = {name: process.pid for name, process in processes.items()} | {"postgres": machine.postgres.pid, "kafka": machine.kafka.pid}
        seen = next(facts)
        began, cpu = time.perf_counter(), cpu_seconds(pids)
        first = seen
        deadline = began + _GIVE_UP_SECONDS
        while seen < total:
            if time.perf_counter() > deadline or any(process.poll() is not None for process in processes.values()):
                raise SystemExit(f"only {seen} of {total} facts came: see {machine.logs}")
            seen += next(facts)
        elapsed, used = time.perf_counter() - began, cpu_seconds(pids)
        counted = seen - first
        return {"per_second": counted / elapsed, "cpu_us": {name: (used[name] - cpu[name]) / counted * 1e6 for name in pids}}
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait(30)


def read_facts_from_now(settings: Settings) -> Iterator[int]:
    """How many facts came, each time some did; reading starts before this returns."""
    config = {"group.id": "bench", "enable.auto.commit": False, "isolation.level": "read_committed", "fetch.wait.max.ms": 20}
    consumer = Consumer(librdkafka_config(settings) | config)
    topic = facts_topic("slo")
    ends = AdminClient(librdkafka_config(settings)).list_topics(topic).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, consumer.get_watermark_offsets(TopicPartition(topic, number))[1]) for number in ends])

    def counts() -> Iterator[int]:
        while True:
            messages = consumer.consume(5_000, 0.02)
            count = sum(message.error() is None for message in messages)
            if count:
                yield count

    return counts()


def cpu_seconds(pids: Mapping[str, int]) -> dict[str, float]:
    """User and system time so far of each process and of the children it has and had."""
    used = {}
    for name, pid in pids.items():
        process = psutil.Process(pid)
        times = [process.cpu_times(), *(child.cpu_times() for child in process.children(recursive=True))]
        used[name] = float(sum(each.user + each.system for each in times) + times[0].children_user + times[0].children_system)
    return used


def summary(results: list[dict[str, Any]], total: int) -> dict[str, Any]:
    def median(*path: str) -> float:
        values = []
        for result in results:
            value: Any = result
            for key in path:
                value = value[key]
            values.append(float(value))
        return statistics.median(values)

    def median_ratio(contender: str) -> float:
        return float(statistics.median(result["ours"]["per_second"] / result[contender]["per_second"] for result in results))

    return {
        "intents": total,
        "slos": SLOS,
        "partitions": PARTITIONS,
        "rounds": len(results),
        "empty_faust_per_second": round(median("empty", "per_second")),
        "end_to_end_per_second": round(median("ours", "per_second")),
        "signed_per_second": round(median("signed", "per_second")),
        "told_per_second": round(median("told", "per_second")),
        "textbook_per_second": round(median("textbook", "per_second")),
        "signed_vs_end_to_end": round(1 / median_ratio("signed"), 3),
        "told_vs_end_to_end": round(1 / median_ratio("told"), 3),
        "end_to_end_vs_empty_faust": round(median_ratio("empty"), 3),
        "end_to_end_vs_textbook": round(median_ratio("textbook"), 2),
        "cpu_us_per_intent": {name: round(median("ours", "cpu_us", name), 1) for name in ("worker", "relay", "postgres", "kafka")},
        "cpu_us_per_signed_intent": {name: round(median("signed", "cpu_us", name), 1) for name in ("worker", "relay", "postgres", "kafka")},
        "cpu_us_per_told_intent": {name: round(median("told", "cpu_us", name), 1) for name in ("worker", "relay", "postgres", "kafka")},
        "cpu_us_per_intent_empty_faust": round(median("empty", "cpu_us"), 1),
    }


def show(figures: Mapping[str, Any]) -> None:
    table = Table(
        title=f"{figures['intents']} intents, {figures['slos']} SLOs, {figures['partitions']} partitions: median of {figures['rounds']}"
    )
    for column in ("", "intents/s", "end to end is"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row("Faust agent that does nothing", str(figures["empty_faust_per_second"]), f"{figures['end_to_end_vs_empty_faust']} of it")
    table.add_row("this worker, intent to fact", str(figures["end_to_end_per_second"]), "")
    table.add_row("the same, signatures required", str(figures["signed_per_second"]), f"{figures['signed_vs_end_to_end']} of that")
    table.add_row("the same, metrics, JSON logs and spans", str(figures["told_per_second"]), f"{figures['told_vs_end_to_end']} of that")
    table.add_row("textbook worker", str(figures["textbook_per_second"]), f"{figures['end_to_end_vs_textbook']} times it")
    console = Console()
    console.print(table)
    cpu = Table("", title="CPU seconds per 100k intents")
    for name in figures["cpu_us_per_intent"]:
        cpu.add_column(name, justify="right")
    contenders = {"by default": "cpu_us_per_intent", "signatures": "cpu_us_per_signed_intent", "telemetry": "cpu_us_per_told_intent"}
    for name, what in contenders.items():
        cpu.add_row(name, *(f"{value / 10:.1f}" for value in figures[what].values()))
    console.print(cpu)


if __name__ == "__main__":
    typer.run(main)
