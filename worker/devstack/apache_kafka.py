"""Apache Kafka, one node on the JVM, as a child process on the loopback interface; Maven fetches its jars once."""

from __future__ import annotations

import hashlib
import shutil
import signal
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from worker.devstack.files import cache_directory, make_once
from worker.devstack.processes import (
    LOOPBACK,
    DevStackError,
    accepts_connections,
    free_port,
    launch,
    require_free,
    run,
    stop,
    wait_until_ready,
)

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping

_POM = Path(__file__).with_name("kafka-pom.xml")
_LOG4J = Path(__file__).with_name("kafka-log4j2.properties")
_PROPERTIES = Path(__file__).with_name("kafka-server.properties")
_CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"  # any 16 bytes in base64
_QUICK_START = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
_HEAP = "-Xmx768m"


class MissingToolError(DevStackError):
    """Java or Maven is not installed."""


@dataclass(frozen=True, slots=True)
class KafkaBroker:
    """A running broker; `controller_port` is for its own use."""

    directory: Path
    port: int
    controller_port: int
    process: subprocess.Popen[bytes]
    changes: BrokerChanges

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def bootstrap_servers(self) -> str:
        return f"{LOOPBACK}:{self.port}"


@dataclass(frozen=True, slots=True)
class ProxiedListener:
    """A second way in, for clients that come through a proxy: the broker listens on `port` and sends them to `advertised_port`."""

    port: int
    advertised_port: int


@dataclass(frozen=True, slots=True)
class BrokerChanges:
    """Settings that differ from, or add to, those of the stack; one of the listeners has to be at the broker's port."""

    settings: Mapping[str, str] = field(default_factory=dict)
    java_options: tuple[str, ...] = ()


@contextmanager
def running_kafka(directory: Path, port: int | None = None) -> Iterator[KafkaBroker]:
    broker = start_kafka(directory, port)
    try:
        yield broker
    finally:
        stop_kafka(broker)


def start_kafka(
    directory: Path,
    port: int | None = None,
    controller_port: int | None = None,
    proxied: ProxiedListener | None = None,
    changes: BrokerChanges | None = None,
    *,
    ready_within_seconds: float = 60,
) -> KafkaBroker:
    """Start a broker, with the data that is in the directory or none; without ports, on free ones. Raises DevStackError."""
    directory, port, controller_port = directory.resolve(), port or free_port(), controller_port or free_port()
    require_free(port, "Apache Kafka")
    require_free(controller_port, "Apache Kafka")
    java, jars = _java(), _jars()
    directory.mkdir(parents=True, exist_ok=True)
    log, data, properties = directory / "kafka.log", directory / "data", directory / "server.properties"
    changes = changes or BrokerChanges()
    changed = "".join(f"{name}={value}\n" for name, value in changes.settings.items())  # the last line of a name counts
    stack = _PROPERTIES.read_text(encoding="utf-8") + _addresses(port, controller_port, data, proxied)
    properties.write_text(stack + changed, encoding="utf-8")
    command = [java, *_QUICK_START, _HEAP, *changes.java_options, f"-Dlog4j2.configurationFile={_LOG4J}", "-cp", f"{jars}/*"]
    if not (data / "meta.properties").exists():
        run("formatting Kafka's storage", [*command, "kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", properties], log)
    process = launch([*command, "kafka.Kafka", properties], log)
    wait_until_ready("Apache Kafka", process, lambda: accepts_connections(port), log, seconds=ready_within_seconds)
    return KafkaBroker(directory, port, controller_port, process, changes)


def restart_kafka(broker: KafkaBroker) -> KafkaBroker:
    """Stop a broker that has not been killed or stopped already and start it again: same data, same ports, another pid."""
    stop_kafka(broker)
    return start_kafka(broker.directory, broker.port, broker.controller_port, changes=broker.changes)


def stop_kafka(broker: KafkaBroker) -> None:
    stop(broker.process, signal.SIGTERM)


def _addresses(port: int, controller_port: int, data: Path, proxied: ProxiedListener | None) -> str:
    listener = "" if proxied is None else f",PROXIED://{LOOPBACK}:{proxied.port}"
    advertised = "" if proxied is None else f",PROXIED://{LOOPBACK}:{proxied.advertised_port}"
    return f"""
listeners=PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}{listener}
advertised.listeners=PLAINTEXT://{LOOPBACK}:{port}{advertised}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT
controller.quorum.voters=1@{LOOPBACK}:{controller_port}
log.dirs={data}
"""


def _java() -> str:
    java = shutil.which("java")
    if java is None:
        raise MissingToolError("Apache Kafka needs Java 17 or later: no `java` on the PATH")
    return java


def _jars() -> Path:
    """The directory of the broker's jars in the user's cache, fetched by Maven if this version's are not there yet."""

    def fetch_into(empty: Path) -> None:
        maven = shutil.which("mvn")
        if maven is None:
            raise MissingToolError("Apache Kafka's jars are not in the cache yet, and fetching them needs Maven: no `mvn` on the PATH")
        options = ["--batch-mode", "--quiet", "-Dstyle.color=never", f"-DoutputDirectory={empty}"]
        arguments = [*options, "--file", str(_POM), "dependency:copy-dependencies"]
        run("fetching Apache Kafka with Maven", [maven, *arguments], empty.with_name("maven.log"))

    version = hashlib.sha256(_POM.read_bytes()).hexdigest()[:12]
    return make_once(cache_directory() / f"kafka-{version}", fetch_into)
