"""The topology: Kafka and PostgreSQL with a proxy before each, two workers and two relays that are started again when they end."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, RLock
from typing import TYPE_CHECKING, Final

from pydantic import SecretStr

from tests.faults.harness.proxy import running_proxy
from tests.faults.harness.schedule import SESSION_TIMEOUT_SECONDS, TRANSACTION_TIMEOUT_SECONDS
from tests.support.roles import as_relay, as_writer
from worker.devstack.apache_kafka import KafkaBroker, ProxiedListener, start_kafka, stop_kafka
from worker.devstack.logins import make_logins
from worker.devstack.postgres import PostgresServer, start_postgres, stop_postgres
from worker.devstack.processes import LOOPBACK, free_port, launch, stop
from worker.domain.aggregate import AGGREGATES
from worker.postgres.migrate import migrate
from worker.relay.slot import ensure_slot
from worker.settings import Settings
from worker.topic_admin import make_topics
from worker.topics import topic_specs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.faults.harness.proxy import RunningProxy

ROOT: Final = Path(__file__).parents[3]
HONEST: Final[Mapping[str, Sequence[str]]] = {"worker": ("-m", "worker"), "relay": ("-m", "worker")}
_TICK_SECONDS: Final = 0.1
_RECOVERY_SECONDS: Final = 300.0  # of a server that was killed: it reads again what it may not have written
_GRACE_SECONDS: Final = 30  # terminationGracePeriodSeconds of a pod
_TMPFS_POSTGRES: Final = {"max_wal_size": "96MB", "min_wal_size": "80MB", "shared_buffers": "64MB"}


@dataclass(slots=True, kw_only=True)
class Member:
    """A worker or a relay, and what became of its processes; `lock` is held by the one fault that is at it."""

    name: str
    command: str
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    start_at: float = 0.0
    ended_on_purpose: bool = False
    lock: RLock = field(default_factory=RLock)

    @property
    def running(self) -> subprocess.Popen[bytes] | None:
        process = self.process
        return process if process is not None and process.poll() is None else None


@dataclass(slots=True, kw_only=True)
class Cluster:
    """`settings` go directly to Kafka and PostgreSQL; the members' environment goes through the proxies.

    `launcher` starts every process: Linux ends a child with the thread that started it, and its threads last as long as this.
    """

    directory: Path
    settings: Settings
    environment: Mapping[str, str]
    programs: Mapping[str, Sequence[str]]
    launcher: ThreadPoolExecutor
    kafka_proxy: RunningProxy
    postgres_proxy: RunningProxy
    kafka: KafkaBroker
    proxied: ProxiedListener
    postgres: PostgresServer
    postgres_settings: Mapping[str, str]
    postgres_disk: Path | None
    members: list[Member] = field(default_factory=list)
    exits: Counter[str] = field(default_factory=Counter)
    stopping: Event = field(default_factory=Event)
    kafka_lock: RLock = field(default_factory=RLock)
    postgres_lock: RLock = field(default_factory=RLock)

    def of(self, command: str) -> list[Member]:
        return [member for member in self.members if member.command == command]

    def supervise(self) -> None:
        """Start members, and start them again whenever they end, as Kubernetes would."""
        while not self.stopping.wait(_TICK_SECONDS):
            for member in self.members:
                self._tend(member)

    def kill(self, member: Member, away_seconds: float = 0) -> None:
        if (process := member.running) is not None:
            member.ended_on_purpose, member.start_at = True, time.monotonic() + away_seconds
            process.kill()
            process.wait()

    def terminate(self, member: Member) -> None:
        """SIGTERM, and SIGABRT after the grace period; an end that is not a clean one is counted."""
        if (process := member.running) is None:
            return
        member.ended_on_purpose = True
        process.terminate()
        try:
            code = process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # on which Python says where each thread is
            code = process.wait(_GRACE_SECONDS)
        if code:
            self.exits[f"{member.command}: {code} after SIGTERM"] += 1

    def kill_kafka(self) -> None:
        self.kafka.process.kill()
        self.kafka.process.wait()

    def stop_kafka(self) -> None:
        stop_kafka(self.kafka)

    def start_kafka(self) -> None:
        kafka = self.kafka
        self.kafka = start_kafka(kafka.directory, kafka.port, kafka.controller_port, self.proxied, ready_within_seconds=_RECOVERY_SECONDS)

    def kill_postgres(self) -> None:
        self.postgres.process.kill()
        self.postgres.process.wait()

    def stop_postgres(self) -> None:
        stop_postgres(self.postgres)

    def start_postgres(self) -> None:
        postgres = self.postgres
        self.postgres = start_postgres(postgres.directory, postgres.port, self.postgres_settings, ready_within_seconds=_RECOVERY_SECONDS)

    def _tend(self, member: Member) -> None:
        now = time.monotonic()
        process = member.process
        if process is not None and process.poll() is not None:
            if not member.ended_on_purpose:
                self.exits[f"{member.command}: {process.returncode}"] += 1
                member.start_at = now + min(5.0, 0.5 if now - member.started > 10 else 2.0)
            member.process, member.ended_on_purpose = None, False
        if member.process is None and now >= member.start_at:
            command = [sys.executable, *self.programs[member.command], member.command]
            member.process = launch(command, member.log, cwd=ROOT, environment=self.environment)
            member.started = now

    def stop_members(self) -> None:
        for member in self.members:
            if (process := member.running) is not None:
                process.send_signal(signal.SIGCONT)
                self.terminate(member)


@contextmanager
def running_cluster(
    directory: Path, *, disk: Path | None = None, programs: Mapping[str, Sequence[str]] = HONEST, workers: int = 2, relays: int = 2
) -> Iterator[Cluster]:
    """Servers, topics, schema and slot are there; members are on their way.

    `disk` is a small file system for PostgreSQL's data. `programs` are what the interpreter is given to be a worker and a relay.
    """
    kafka_port, proxied, postgres_port, postgres_proxy_port = (free_port() for _ in range(4))
    kafka_proxy_port = free_port()
    listener = ProxiedListener(proxied, kafka_proxy_port)
    postgres_settings = {"wal_sender_timeout": "5s"} | (_TMPFS_POSTGRES if disk else {})
    with ExitStack() as stack:
        launcher = stack.enter_context(ThreadPoolExecutor(16, "launcher"))
        starting = launcher.submit(start_kafka, directory / "kafka", kafka_port, None, listener)
        postgres = launcher.submit(start_postgres, (disk or directory) / "postgres", postgres_port, postgres_settings).result()
        kafka = starting.result()
        dsn = f"postgresql://postgres@{LOOPBACK}:{postgres_proxy_port}/postgres"
        settings = Settings(
            kafka_bootstrap_servers=kafka.bootstrap_servers,
            database_url=SecretStr(postgres.dsn),
            session_timeout_seconds=SESSION_TIMEOUT_SECONDS,
            relay_transaction_timeout_seconds=TRANSACTION_TIMEOUT_SECONDS,
        )
        cluster = Cluster(
            directory=directory,
            settings=settings,
            environment={
                "SRE_KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{kafka_proxy_port}",
                "SRE_KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
                "SRE_DATABASE_URL": as_writer(dsn),
                "SRE_RELAY_DATABASE_URL": as_relay(dsn),
                "SRE_CONSUMER_GROUP": settings.consumer_group,
                "SRE_RELAY_SLOT": settings.relay_slot,
                "SRE_SESSION_TIMEOUT_SECONDS": str(SESSION_TIMEOUT_SECONDS),
                "SRE_RELAY_TRANSACTION_TIMEOUT_SECONDS": str(TRANSACTION_TIMEOUT_SECONDS),
                "PYTHONFAULTHANDLER": "1",
                "PYTHONPATH": str(ROOT),
            },
            programs=programs,
            launcher=launcher,
            kafka_proxy=stack.enter_context(running_proxy(kafka_proxy_port, proxied)),
            postgres_proxy=stack.enter_context(running_proxy(postgres_proxy_port, postgres_port)),
            kafka=kafka,
            proxied=listener,
            postgres=postgres,
            postgres_settings=postgres_settings,
            postgres_disk=disk,
        )
        for command, number in (("worker", workers), ("relay", relays)):
            names = [f"{command}-{index}" for index in range(number)]
            cluster.members += [Member(name=name, command=command, log=directory / f"{name}.log") for name in names]
        stack.callback(_end, cluster)
        migrate(settings.migration_dsn)
        make_logins(settings.migration_dsn)
        make_topics(settings, topic_specs(tuple(AGGREGATES)))
        ensure_slot(settings.relay_dsn, settings.relay_slot)
        supervising = launcher.submit(cluster.supervise)
        yield cluster
        cluster.stopping.set()
        supervising.result(_GRACE_SECONDS)


def _end(cluster: Cluster) -> None:
    cluster.stopping.set()
    cluster.stop_members()
    for process in (cluster.kafka.process, cluster.postgres.process):
        stop(process, signal.SIGINT if process is cluster.postgres.process else signal.SIGTERM, seconds=10)
    shutil.copy(cluster.postgres.directory / "postgres.log", cluster.directory / "postgres.log")
