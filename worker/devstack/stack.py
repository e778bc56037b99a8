"""Everything that sre-domain needs and is, on one machine: PostgreSQL, a broker, the relay and the worker, as children of this process."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.devstack.apache_kafka import start_kafka, stop_kafka
from worker.devstack.files import exclusive
from worker.devstack.logins import READER, RELAY, WRITER, login, make_logins
from worker.devstack.postgres import start_postgres, stop_postgres
from worker.devstack.processes import LOOPBACK, free_port, is_free, launch, stop
from worker.devstack.service import Running, Service
from worker.devstack.tansu import start_tansu, stop_tansu
from worker.domain.aggregate import AGGREGATES
from worker.postgres.migrate import migrate
from worker.relay.slot import ensure_slot
from worker.settings import Settings
from worker.topic_admin import make_topics
from worker.topics import topic_specs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_PARENT_OF_PACKAGE = Path(__file__).parents[2]
_OF_ANOTHER_DEPLOYMENT = re.compile("SRE_(KAFKA_(SASL|OAUTH|SSL)_.*|SCHEMA_REGISTRY_.*|ENCODING|SECRETS_DIR)").fullmatch
_TANSU_SESSION_TIMEOUT_SECONDS = 6  # joining a group takes half of it there


class Broker(StrEnum):
    TANSU = "tansu"
    APACHE = "apache"


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack that runs; `settings_environment` are the SRE_* variables with which anything else joins in."""

    directory: Path
    settings_environment: Mapping[str, str]
    services: Sequence[Service]

    @property
    def settings(self) -> Settings:
        given: dict[str, Any] = {name.removeprefix("SRE_").lower(): value or None for name, value in self.settings_environment.items()}
        return Settings(**given)

    def tend(self, say: Callable[[str], None]) -> None:
        """Start again what has ended by itself; to be called several times a second."""
        for service in self.services:
            service.tend(say)


@contextmanager
def running_stack(broker: Broker, directory: Path) -> Iterator[Stack]:
    """Start the stack, and stop it in the order that loses nothing; `directory` takes its data, its logs and the file `env`.

    With Tansu, which keeps all in memory, the database begins empty too: it would know facts that no topic has.
    Raises WorkerError, one line, when something does not start. Linux ends the children when the calling thread dies.
    """
    directory = directory.resolve()
    services: list[Service] = []
    with exclusive(directory, "sre-domain dev"):
        data = directory / broker
        if broker is Broker.TANSU:
            shutil.rmtree(data, ignore_errors=True)
        data.mkdir(exist_ok=True)
        ports = _ports(directory)
        environment = _settings_environment(broker, ports)
        stack = Stack(directory, environment, services)
        try:
            _begin(services, _postgres(data, ports["postgres"]))
            migrate(stack.settings.migration_dsn)
            make_logins(stack.settings.migration_dsn)
            ensure_slot(stack.settings.relay_dsn, stack.settings.relay_slot)
            _begin(services, _tansu(data, ports, stack) if broker is Broker.TANSU else _apache(data, ports, stack))
            _begin(services, _command("relay", data, environment))
            _begin(services, _command("worker", data, environment))
            _write_environment(directory / "env", environment)
            yield stack
        finally:
            for service in reversed(services):
                service.stop()


def _begin(services: list[Service], service: Service) -> None:
    services.append(service)
    service.begin()


def _postgres(data: Path, port: int) -> Service:
    directory = data / "postgres"

    def start() -> Running:
        server = start_postgres(directory, port)
        return Running(server.process, partial(stop_postgres, server))

    return Service("PostgreSQL", directory / "postgres.log", start)


def _apache(data: Path, ports: Mapping[str, int], stack: Stack) -> Service:
    directory = data / "kafka"

    def start() -> Running:
        broker = start_kafka(directory, ports["broker"], ports["controller"])
        _make_topics(stack)
        return Running(broker.process, partial(stop_kafka, broker))

    return Service("Apache Kafka", directory / "kafka.log", start)


def _tansu(data: Path, ports: Mapping[str, int], stack: Stack) -> Service:
    directory = data / "tansu"

    def start() -> Running:
        broker = start_tansu(directory, ports["broker"])
        _make_topics(stack)
        return Running(broker.process, partial(stop_tansu, broker))

    return Service("Tansu", directory / "tansu.log", start)


def _command(name: str, data: Path, environment: Mapping[str, str]) -> Service:
    log = data / f"{name}.log"

    def start() -> Running:
        process = launch([sys.executable, "-m", "worker", name], log, cwd=_PARENT_OF_PACKAGE, environment=environment)
        return Running(process, partial(stop, process))

    return Service(f"the {name}", log, start)


def _make_topics(stack: Stack) -> None:
    make_topics(stack.settings, topic_specs(tuple(AGGREGATES)))


def _ports(directory: Path) -> dict[str, int]:
    """The ports of the last run in this directory, so that settings read then still hold; another where one is taken."""
    file = directory / "ports.json"
    last = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    ports = {name: last[name] if name in last and is_free(last[name]) else free_port() for name in ("postgres", "broker", "controller")}
    file.write_text(json.dumps(ports), encoding="utf-8")
    return ports


def _settings_environment(broker: Broker, ports: Mapping[str, int]) -> dict[str, str]:
    """Every variable that says where to connect, so that none of another deployment shows through."""
    dsn = f"postgresql://postgres@{LOOPBACK}:{ports['postgres']}/postgres"
    environment = {
        "SRE_KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{ports['broker']}",
        "SRE_KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
        "SRE_DATABASE_URL": login(dsn, WRITER),
        "SRE_MIGRATE_DATABASE_URL": dsn,
        "SRE_RELAY_DATABASE_URL": login(dsn, RELAY),
        "SRE_QUERY_DATABASE_URL": login(dsn, READER),
    }
    if broker is Broker.TANSU:
        environment["SRE_SESSION_TIMEOUT_SECONDS"] = str(_TANSU_SESSION_TIMEOUT_SECONDS)
    return environment | dict.fromkeys(filter(_OF_ANOTHER_DEPLOYMENT, os.environ), "")


def _write_environment(file: Path, environment: Mapping[str, str]) -> None:
    file.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items()), encoding="utf-8")
