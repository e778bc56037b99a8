"""The whole system as processes: worker and relay against a real Kafka and PostgreSQL, and a reader that watches throughout."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, LiteralString
from uuid import uuid4

import psycopg
from psycopg.sql import SQL, Identifier
from pydantic import SecretStr

from tests.support.roles import as_relay, as_writer
from worker.audit import breaches
from worker.client import publish, read_committed
from worker.codec import load_codec
from worker.domain.aggregate import AGGREGATES
from worker.evidence import gather_evidence, outgoing_topics, to_record
from worker.relay.slot import ensure_slot
from worker.settings import Settings
from worker.topic_admin import make_topics, partition_counts
from worker.topics import topic_specs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from worker.client import Outgoing
    from worker.codec import Codec
    from worker.envelope import Record

BROKEN = Path(__file__).parent.parent / "faults" / "broken"
SESSION_TIMEOUT_SECONDS = 6  # the shortest that Kafka's brokers allow: how long a killed worker's partitions wait


@dataclass
class System:
    """Starts, kills and audits. `seen` is what a read_committed reader saw from the start on, in its order."""

    settings: Settings
    directory: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    seen: list[Record] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def start(self, command: str, broken: str | None = None) -> subprocess.Popen[bytes]:
        """Start `sre-domain worker` or `relay`; `broken` names a deliberate break in tests/faults/broken."""
        program = ["-m", "worker"] if broken is None else [str(BROKEN / f"{broken}.py")]
        with self.log(command).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *program, command], env={**os.environ, **environment_of(self.settings)}, stdout=log, stderr=log
            )
        self.processes.append(process)
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGKILL)
        process.wait(10)

    def log(self, command: str) -> Path:
        return self.directory / f"{command}.log"

    def publish(self, records: Iterable[Outgoing]) -> int:
        return publish(self.settings, records)

    def count(self, table: str, where: LiteralString = "true") -> int:
        with psycopg.connect(self.settings.writer_dsn) as connection:
            statement = SQL("SELECT count(*) FROM {} WHERE {}").format(Identifier(table), SQL(where))
            row = connection.execute(statement).fetchone()
        assert row is not None
        return int(row[0])

    def wait_for_outcomes(self, at_least: int, seconds: float = 120, where: LiteralString = "true") -> None:
        def count() -> int:
            return self.count("inbox", where)

        wait_until(lambda: count() >= at_least, seconds, lambda: f"{count()} of {at_least} outcomes {self.logs()}")

    def wait_until_published(self, seconds: float = 60) -> None:
        """Until the watching reader has seen as many records as the outbox holds."""
        wait_until(
            lambda: len(self.seen) >= self.count("outbox"),
            seconds,
            lambda: f"{len(self.seen)} of {self.count('outbox')} facts and rejections are published {self.logs()}",
        )

    def breaches(self, published: Sequence[Record] | None = None, codec: Codec | None = None) -> list[str]:
        """What the audit finds: for a reader that starts now, or for what was seen all along."""
        partitions = partition_counts(self.settings, outgoing_topics())
        return breaches(asyncio.run(gather_evidence(self.settings, partitions, published)), codec or load_codec())

    def logs(self) -> str:
        return "".join(f"\n--- {path.name}\n{path.read_text()[-3000:]}" for path in sorted(self.directory.glob("*.log")))

    def end(self) -> None:
        """Stop the watching reader and every process that was started."""
        self.stopping.set()
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def watch(self) -> None:
        for message in read_committed(self.settings, outgoing_topics(), from_beginning=True, stopped=self.stopping.is_set):
            self.seen.append(to_record(message))


@contextmanager
def running_system(kafka: str, database: str, directory: Path) -> Iterator[System]:
    """Nothing runs yet but the watching reader; whatever was started is gone at the end."""
    settings = Settings(
        kafka_bootstrap_servers=kafka,
        database_url=SecretStr(database),
        consumer_group=f"sre-domain-{uuid4().hex}",
        relay_slot=f"slot_{uuid4().hex}",
        session_timeout_seconds=SESSION_TIMEOUT_SECONDS,
    )
    make_topics(settings, topic_specs(tuple(AGGREGATES)))
    ensure_slot(settings.relay_dsn, settings.relay_slot)
    system = System(settings, directory)
    watcher = threading.Thread(target=system.watch, daemon=True)
    watcher.start()
    try:
        yield system
    finally:
        system.end()
        watcher.join(10)


def environment_of(settings: Settings) -> dict[str, str]:
    return {
        "SRE_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "SRE_DATABASE_URL": as_writer(settings.writer_dsn),
        "SRE_RELAY_DATABASE_URL": as_relay(settings.relay_dsn),
        "SRE_CONSUMER_GROUP": settings.consumer_group,
        "SRE_RELAY_SLOT": settings.relay_slot,
        "SRE_SESSION_TIMEOUT_SECONDS": str(settings.session_timeout_seconds),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }


def wait_until(holds: Callable[[], bool], seconds: float, what: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what()}")
        time.sleep(0.05)
