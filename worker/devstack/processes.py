"""Child processes that do not outlive their parent, and what it takes to start and stop servers among them."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from worker.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

LOOPBACK = "127.0.0.1"
_PORTS = range(15_000, 32_000)  # below those that outgoing connections take, so that a stopped server finds its own free
_POLL_SECONDS = 0.02
_STARTED = b"--- started"  # begins the lines of the latest run in a log
_COMPLAINT = re.compile(r"error|fatal", re.IGNORECASE)
_BOUND_TO_PARENT = Path(__file__).with_name("bound_to_parent.py")


class DevStackError(WorkerError):
    """A server of the development stack is missing something, does not start or does not stop."""


def free_port() -> int:
    """A port of the loopback interface on which nothing listens."""
    for port in random.sample(_PORTS, k=200):
        if is_free(port):
            return port
    raise DevStackError(f"no free port found between {_PORTS.start} and {_PORTS.stop}")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: connections of the last one may linger
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def require_free(port: int, server: str) -> None:
    """Raise DevStackError, one line, where something else listens on the port."""
    if not is_free(port):
        raise DevStackError(f"{server} cannot start: port {port} is taken")


def accepts_connections(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK, port), timeout=1).close()
    except OSError:
        return False
    return True


def launch(
    command: Sequence[str | Path],
    log: Path,
    *,
    death_signal: signal.Signals = signal.SIGKILL,
    user: str | None = None,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a command whose output is appended to `log`; it gets `death_signal` when the thread that called this ends (on Linux).

    It has a session of its own: Ctrl-C reaches the parent alone, which then stops its children in order.
    """
    become: list[str | Path] = [sys.executable, "-I", "-S", _BOUND_TO_PARENT, str(os.getpid()), str(int(death_signal)), user or "-"]
    with log.open("ab") as output:
        output.write(_STARTED + f" {command[0]}\n".encode())
        output.flush()
        return subprocess.Popen(  # noqa: S603  the commands are the stack's own
            [*become, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=None if environment is None else {**os.environ, **environment},
            start_new_session=True,
        )


def wait_until_ready(server: str, process: subprocess.Popen[bytes], ready: Callable[[], bool], log: Path, *, seconds: float) -> None:
    """Wait for `ready`; whatever prevents that leaves no process.

    Raises DevStackError, with the last complaint of the log, when the process ends first or takes too long.
    """
    deadline = time.monotonic() + seconds
    with _killed_on_error(process):
        while not ready():
            if process.poll() is not None:
                raise DevStackError(f"{server} did not start: {complaints(log)[-1]} (see {log})")
            if time.monotonic() > deadline:
                raise DevStackError(f"{server} was not ready after {seconds:.0f} s: {complaints(log)[-1]} (see {log})")
            time.sleep(_POLL_SECONDS)


def run(what: str, command: Sequence[str | Path], log: Path, *, user: str | None = None, cwd: Path | None = None) -> None:
    """Run a command to its end, its output appended to `log`. Raises DevStackError when it fails."""
    process = launch(command, log, user=user, cwd=cwd)
    with _killed_on_error(process):
        process.wait()
    if process.returncode != 0:
        raise DevStackError(f"{what} failed: {complaints(log)[0]} (see {log})")


@contextmanager
def _killed_on_error(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        kill(process)
        raise


def wait_until(holds: Callable[[], bool], *, seconds: float, failure: str) -> None:
    """Raises DevStackError with `failure` when the condition does not hold in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise DevStackError(failure)
        time.sleep(_POLL_SECONDS)


def stop(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM, *, seconds: float = 20) -> int:
    """Ask a process to end, kill it when it has not after `seconds`, and return its exit code; does nothing to one that has ended."""
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            kill(process)
    return process.returncode


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def complaints(log: Path) -> list[str]:
    """Lines of the latest run that speak of an error; else its last line; never empty."""
    latest_run = log.read_bytes().rpartition(_STARTED)[2].decode(errors="replace")
    lines = [line.strip() for line in latest_run.split("\n")[1:] if line.strip()]
    return [line for line in lines if _COMPLAINT.search(line)] or lines[-1:] or ["it said nothing"]
