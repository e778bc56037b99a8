"""`sre-domain demo`: the main job on real traffic, on a stack of its own, with every outcome checked."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import psycopg
import typer

from worker.cli.stack import ChosenBroker, stop_on_signals
from worker.codec import load_codec
from worker.demo import screen
from worker.demo.figures import read_figures
from worker.demo.result import conclude, write
from worker.demo.run import play
from worker.demo.state import read_state
from worker.demo.story import tell
from worker.devstack.stack import Broker, running_stack
from worker.errors import WorkerError
from worker.postgres.queries import connect_reader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from worker.demo.run import Observed
    from worker.demo.state import State
    from worker.devstack.stack import Stack

_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it

Out = Annotated[Path, typer.Option(help="Takes the figures, as JSON.", dir_okay=False)]


class DemonstrationFailedError(WorkerError):
    """The audit found a breach, or the stack broke down before it could look."""


def demo(broker: ChosenBroker = Broker.TANSU, out: Out = Path("build/demo.json")) -> None:
    """Follow real traffic from intent to fact, on a stack of its own, and check every outcome; takes less than a minute.

    The minutes of a web server's log are recorded on SLOs of several kinds, with faulty intents among them. Meanwhile alerts come in, an
    incident is worked on to its end, and a runbook is executed with approval. Status 1: a check failed.
    """
    began = time.monotonic()
    stop_on_signals()
    logging.getLogger("librdkafka").setLevel(logging.CRITICAL)  # what it tries again while the broker starts
    console = screen.open_console()
    try:
        with _scratch_directory() as directory, _one_line_errors():
            _demonstrate(broker, directory, out, console, began)
    except KeyboardInterrupt:
        console.print("stopped")
        raise typer.Exit(_INTERRUPTED) from None


def _demonstrate(broker: Broker, directory: Path, out: Path, console: Console, began: float) -> None:
    """Raises WorkerError, also for breaches, once they are shown and written."""
    windows, codec = read_figures(), load_codec()
    console.print(screen.subject(windows))
    with running_stack(broker, directory) as stack:
        console.print(f"{', '.join(service.name for service in stack.services)}: started in {time.monotonic() - began:.1f} s")
        story = tell(windows, datetime.now(UTC), codec)
        with screen.following(console, story) as show:

            def tick(observed: Observed) -> None:
                stack.tend(partial(console.print, markup=False))
                show(observed)

            observed, evidence = play(story, stack.settings, tick)
        result = conclude(story, observed, evidence, codec, broker=broker, seconds=time.monotonic() - began)
        write(result, out)
        for part in screen.report(_read_state(stack, observed), observed, result):
            console.print(part)
    console.print(f"{result.seconds:.1f} s from start to result; its figures are in {out}")
    if result.violations:
        raise DemonstrationFailedError(f"breaches found by the audit: {len(result.violations)}")


def _read_state(stack: Stack, observed: Observed) -> State:
    with connect_reader(stack.settings.reader_dsn) as connection:
        return read_state(connection, observed.facts)


@contextmanager
def _scratch_directory() -> Iterator[Path]:
    """Removed at the end, unless there is an error to look for the cause of."""
    directory = Path(tempfile.mkdtemp(prefix="sre-domain-demo-"))
    try:
        yield directory
    except WorkerError:
        typer.echo(f"the logs stay in {directory}", err=True)
        raise
    except BaseException:
        shutil.rmtree(directory)
        raise
    shutil.rmtree(directory)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise DemonstrationFailedError(f"PostgreSQL: {' '.join(str(error).split())}") from error
