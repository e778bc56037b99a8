"""Runs `worker` or `relay` as it is, but that it kills itself at a crash point: `<command>: <crash point>`, a line of stdin each.

Each run is a fork, which need not load the libraries again; its exit status goes to stdout. What is on its way to PostgreSQL or Kafka
when it dies is flushed first, so that the other side has it, or will.
"""

# ruff: noqa: ANN401 - stand-ins take whatever they are handed

from __future__ import annotations

import inspect
import os
import select
import signal
import sys
from functools import wraps
from importlib import import_module
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

import confluent_kafka
import faust.transport.drivers.aiokafka
import psycopg
import pydantic_settings
import typer

from tests.faults.crash_points import END_TXN, FAULTY, POINTS
from worker.postgres.named_sql import statements
from worker.relay import publisher

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.crash_points import CrashPoint

PATIENCE_SECONDS: Final = 5.0
STDERR: Final = os.dup(2)


class Trap:
    """Springs at the crash point; told of every call before and after it is made."""

    def __init__(self, point: CrashPoint) -> None:
        self.point = point
        self.armed = point.armed_by is None
        self.calls = 0

    def before(self, step: str) -> None:
        self.pass_by("before", step)

    def after(self, step: str) -> None:
        self.pass_by("after", step)
        if step == self.point.armed_by:
            self.armed = True
        if step == self.point.stops_at:
            signal.raise_signal(signal.SIGTERM)
        if step == self.point.breaks_at:
            raise psycopg.OperationalError("the connection is lost")

    def pass_by(self, moment: str, step: str) -> None:
        if self.armed and (moment, step) == (self.point.moment, self.point.step):
            self.calls += 1
            if self.calls == self.point.nth:
                die(self.point)


def die(point: CrashPoint) -> None:
    os.write(STDERR, f"killed at: {point.name}\n".encode())
    os.kill(os.getpid(), signal.SIGKILL)


def set_trap(trap: Trap) -> None:
    psycopg.AsyncConnection.execute = watch_statements(trap, psycopg.AsyncConnection.execute)  # type: ignore[method-assign]
    psycopg.Connection.execute = watch_statements(trap, psycopg.Connection.execute)  # type: ignore[method-assign]
    publisher.Producer = watched_producer(trap)  # type: ignore[attr-defined]
    point = trap.point
    steps = {step for step in (point.step, point.armed_by, point.breaks_at, point.stops_at) if step is not None}
    for step in sorted(steps):
        if not step.startswith(("sql:", "kafka:", "worker.relay.publisher.Producer.")):
            owner, name = resolve(step)
            setattr(owner, name, watch(trap, step, getattr(owner, name)))


def resolve(step: str) -> tuple[Any, str]:
    """The module or class that has the function, and the function's name there. Raises LookupError."""
    path, _, name = step.rpartition(".")
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            owner = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            owner = getattr(owner, part)
        if not callable(getattr(owner, name, None)):
            raise LookupError(f"{step} is no function")  # noqa: TRY004 - neither is it there
        return owner, name
    raise LookupError(f"{step} is in no module")


def watch(trap: Trap, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def watched_coroutine(*arguments: Any, **named: Any) -> Any:
            trap.before(step)
            result = await function(*arguments, **named)
            if arguments and isinstance(arguments[0], psycopg.AsyncConnection):
                await send(arguments[0])
            trap.after(step)
            return result

        return watched_coroutine

    @wraps(function)
    def watched(*arguments: Any, **named: Any) -> Any:
        trap.before(step)
        result = function(*arguments, **named)
        trap.after(step)
        return result

    return watched


def watch_statements(trap: Trap, execute: Callable[..., Any]) -> Callable[..., Any]:
    """`execute` of a connection, each call the step of the statement that it is given."""
    steps = {step for step in (trap.point.step, trap.point.armed_by) if step is not None and step.startswith("sql:")}
    by_statement = {statements(file)[name]: step for step in steps for file, name in [step.removeprefix("sql:").split(".")]}

    def execute_watched(connection: Any, query: Any, *arguments: Any, **named: Any) -> Any:
        step = by_statement.get(query) if isinstance(query, bytes) else None
        return (execute if step is None else watch(trap, step, execute))(connection, query, *arguments, **named)

    return execute_watched


async def send(connection: psycopg.AsyncConnection[Any]) -> None:
    """All that the pipeline holds, down to the socket."""
    if connection._pipeline is not None:
        async with connection.lock:
            await connection.wait(connection._pipeline._communicate_gen())
    while connection.pgconn.flush():
        select.select([], [connection.pgconn.socket], [], PATIENCE_SECONDS)


def watched_producer(trap: Trap) -> type[confluent_kafka.Producer]:
    """Librdkafka's producer is no Python: what is to be watched is told by a class of ours."""
    path = "worker.relay.publisher.Producer."
    shown = {"debug": "protocol", "log_level": 7} if trap.point.step == END_TXN else {}

    class Watched(confluent_kafka.Producer):
        def __init__(self, config: dict[str, Any]) -> None:
            super().__init__({name: value for name, value in config.items() if not (shown and name == "logger")} | shown)

        def begin_transaction(self) -> None:
            watch(trap, f"{path}begin_transaction", super().begin_transaction)()

        def produce(self, *arguments: Any, **named: Any) -> None:
            trap.before(f"{path}produce")
            super().produce(*arguments, **named)
            if trap.point.step.startswith((path, "worker.relay.publisher.Publisher")):
                self.flush(PATIENCE_SECONDS)
            trap.after(f"{path}produce")

        def commit_transaction(self, *arguments: Any) -> None:
            if shown:
                die_when_sent(trap.point)
            watch(trap, f"{path}commit_transaction", super().commit_transaction)(*arguments)

        def abort_transaction(self, *arguments: Any) -> None:
            watch(trap, f"{path}abort_transaction", super().abort_transaction)(*arguments)

    return Watched


def die_when_sent(point: CrashPoint) -> None:
    """Librdkafka says on stderr what it has written to a socket."""
    reading, writing = os.pipe()
    os.dup2(writing, 2)

    def read() -> None:
        told = b""
        while b"Sent EndTxnRequest" not in told:
            told = told[-100:] + os.read(reading, 65_536)
        die(point)

    Thread(target=read, daemon=True).start()


async def fail(*_: Any) -> None:
    raise RuntimeError("a fault of ours")


def run(command: str, name: str) -> None:
    point = POINTS[command][name]
    set_trap(Trap(point))
    if point in FAULTY:
        pipeline = import_module("worker.pipeline")
        pipeline.process_batch = fail  # type: ignore[attr-defined]
    sys.argv[1:] = [command]
    import_module("worker.cli").main()  # only now, so that what is watched is what it imports


def serve() -> None:
    child = 0

    def stop(*_: Any) -> None:
        if child:
            os.kill(child, signal.SIGKILL)
        sys.exit()

    signal.signal(signal.SIGTERM, stop)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            run(*line.rstrip().split(": ", 1))
            sys.exit()
        _, status = os.waitpid(child, 0)
        child = 0
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


LOADED: Final = (faust.transport.drivers.aiokafka, pydantic_settings, typer)
"""The libraries that take longest to load; those of ours are loaded by each run, for the trap to be set first."""

if __name__ == "__main__":
    serve()
