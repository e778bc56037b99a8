"""Kafka Connect with Debezium on the JVM, run with the files of examples/debezium; Maven fetches its jars once."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka.admin import AdminClient, NewTopic
from psycopg.conninfo import conninfo_to_dict

from worker.devstack import apache_kafka
from worker.devstack.apache_kafka import MissingToolError
from worker.devstack.files import cache_directory, make_once
from worker.devstack.processes import LOOPBACK, free_port, kill, launch, run, wait_until_ready

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping, Sequence

EXAMPLES: Final = Path(__file__).parents[2] / "examples" / "debezium"
_PLUGIN: Final = EXAMPLES / "cloudevent-headers"
_POM: Final = Path(__file__).with_name("kafka-connect-pom.xml")
CHEAP_JAVA: Final = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xmx384m")
_LOGGING: Final = ("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true")
# One broker, and no time to wait for what a cluster waits for.
_ONE_BROKER: Final[Mapping[str, str]] = {
    "config.storage.replication.factor": "1",
    "offset.storage.replication.factor": "1",
    "status.storage.replication.factor": "1",
    "plugin.discovery": "service_load",  # faster: all of ours have a service file
}
STATE_SECONDS: Final = 60.0


class ConnectError(Exception):
    """Kafka Connect refused a request, or a connector failed: what it said."""


@dataclass(frozen=True, slots=True)
class KafkaConnect:
    """One worker of a distributed Kafka Connect; `group` is its group.id."""

    url: str
    group: str
    log: Path
    process: subprocess.Popen[bytes]

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - any JSON
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)  # noqa: S310 - http
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - http
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise ConnectError(error.read().decode()) from error
        return json.loads(text) if text else None

    def start(self, name: str, config: Mapping[str, str]) -> None:
        """Make the connector, or change it, and wait until its task runs."""
        self.request("PUT", f"/connectors/{name}/config", config)
        self.wait_for_state(name, "RUNNING", tasks=1)

    def stop(self, name: str) -> None:
        """Stop its task; its offsets stay."""
        self.request("PUT", f"/connectors/{name}/stop")
        self.wait_for_state(name, "STOPPED", tasks=0)

    def resume(self, name: str) -> None:
        self.request("PUT", f"/connectors/{name}/resume")
        self.wait_for_state(name, "RUNNING", tasks=1)

    def delete(self, name: str) -> None:
        """With its offsets, so that another one of this name begins where its slot does."""
        self.stop(name)
        self.request("DELETE", f"/connectors/{name}/offsets")
        self.request("DELETE", f"/connectors/{name}")

    def wait_for_state(self, name: str, state: str, *, tasks: int) -> None:
        deadline = time.monotonic() + STATE_SECONDS
        while True:
            found = self._status(name)
            if found is not None:
                states = [found["connector"]["state"], *(task["state"] for task in found["tasks"])]
                if states == [state] + [state] * tasks:
                    return
                if "FAILED" in states and state != "STOPPED":
                    raise ConnectError("\n".join(part.get("trace", "") for part in (found["connector"], *found["tasks"])))
            if time.monotonic() > deadline:
                raise ConnectError(f"connector {name} is not {state} but {found}: see {self.log}")
            time.sleep(0.05)

    def _status(self, name: str) -> Any:  # noqa: ANN401 - any JSON
        """None for the moment in which it is being made."""
        try:
            return self.request("GET", f"/connectors/{name}/status")
        except ConnectError as error:
            if json.loads(str(error))["error_code"] != 404:
                raise
            return None


@contextmanager
def running_connect(bootstrap_servers: str, database: str, directory: Path, java: Sequence[str] = CHEAP_JAVA) -> Iterator[KafkaConnect]:
    """A worker with topics of its own; `database` is what the connector logs in with. Killed at the end: nobody wants its offsets."""
    connect = start_connect(bootstrap_servers, database, directory, java)
    try:
        yield connect
    finally:
        kill(connect.process)


def start_connect(bootstrap_servers: str, database: str, directory: Path, java: Sequence[str] = CHEAP_JAVA) -> KafkaConnect:
    """A new worker, or one that goes on where the last one of this directory ended. Raises DevStackError."""
    directory.mkdir(parents=True, exist_ok=True)
    port, group = free_port(), f"connect-{hashlib.sha256(str(directory).encode()).hexdigest()[:8]}"
    make_heartbeat_topic(bootstrap_servers)
    own = {
        "bootstrap.servers": bootstrap_servers,
        "listeners": f"http://{LOOPBACK}:{port}",
        "group.id": group,
        "plugin.path": str(_plugin()),  # Debezium itself is on the class path
        **{f"{kind}.storage.topic": f"{group}-{kind}" for kind in ("config", "offset", "status")},
    }
    properties, log = directory / "worker.properties", directory / "connect.log"
    changes = "".join(f"{name}={value}\n" for name, value in {**_ONE_BROKER, **own}.items())  # the last line of a name counts
    properties.write_text((EXAMPLES / "worker.properties").read_text() + changes)
    program = [apache_kafka._java(), *java, *_LOGGING, "-cp", f"{_jars()}/*", "org.apache.kafka.connect.cli.ConnectDistributed"]
    process = launch([*program, properties], log, environment=environment_for(database))
    connect = KafkaConnect(f"http://{LOOPBACK}:{port}", group, log, process)
    wait_until_ready("Kafka Connect", process, lambda: _answers(connect), log, seconds=120)
    return connect


def environment_for(database: str) -> dict[str, str]:
    """What the example's connector takes from the environment, for the login of this DSN."""
    parts = {"port": "5432"} | conninfo_to_dict(database)
    return {f"SRE_DEBEZIUM_DATABASE_{name.upper()}": str(parts[name]) for name in ("host", "port", "user", "password")}


def connector(database: str, slot: str, **changes: str) -> dict[str, str]:
    """The example's configuration for one database and slot."""
    config: dict[str, str] = json.loads((EXAMPLES / "connector.json").read_text())
    return config | {"database.dbname": str(conninfo_to_dict(database)["dbname"]), "slot.name": slot} | changes


def make_heartbeat_topic(bootstrap_servers: str) -> None:
    admin, name = AdminClient({"bootstrap.servers": bootstrap_servers}), "__debezium-heartbeat.sre"
    if name not in admin.list_topics(timeout=20).topics:
        admin.create_topics([NewTopic(name, 1, 1)])[name].result()


def _answers(connect: KafkaConnect) -> bool:
    try:
        connect.request("GET", "/connectors")
    except (OSError, ConnectError):
        return False
    return True


def _jars() -> Path:
    def fetch_into(empty: Path) -> None:
        options = [f"-DoutputDirectory={empty}", "--file", str(_POM), "dependency:copy-dependencies", "-DincludeScope=runtime"]
        run("fetching Kafka Connect with Maven", [*_maven(), *options], empty.with_name("maven.log"))

    return make_once(cache_directory() / f"kafka-connect-{hashlib.sha256(_POM.read_bytes()).hexdigest()[:12]}", fetch_into)


def _plugin() -> Path:
    """The directory of the example's own plugin, built where its sources are not those that were built last."""
    sources = sorted(path for path in _PLUGIN.rglob("*") if path.is_file() and "target" not in path.parts)
    version = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]

    def build_into(empty: Path) -> None:
        shutil.copytree(_PLUGIN, empty / "source", ignore=shutil.ignore_patterns("target"))
        run("building cloudevent-headers", [*_maven(), "--file", empty / "source" / "pom.xml", "package"], empty.with_name("maven.log"))
        shutil.move(empty / "source" / "target" / "cloudevent-headers.jar", empty)
        shutil.rmtree(empty / "source")

    return make_once(cache_directory() / f"cloudevent-headers-{version}", build_into)


def _maven() -> list[str]:
    maven = shutil.which("mvn")
    if maven is None:
        raise MissingToolError("Debezium comes through Maven: no `mvn` on the PATH")
    return [maven, "--batch-mode", "--quiet", "-Dstyle.color=never"]
