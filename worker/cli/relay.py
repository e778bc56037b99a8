"""`sre-domain relay`, `relay rebuild` for when it can't go on, and `relay hand-over` for when Debezium shall."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING, Annotated

import psycopg
import typer
from confluent_kafka import KafkaException
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from worker.errors import WorkerError
from worker.health import serve_health
from worker.logs import log_to_stderr, only_errors_of_ours
from worker.memory import collect_rarely, merge_freed_at_once
from worker.relay import rebuild as rebuilding
from worker.relay.hand_over import hand_over as make_successor
from worker.relay.relay import run
from worker.relay.replication import format_lsn
from worker.relay.status import RelayStatus
from worker.settings import Settings
from worker.telemetry.services import observed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from worker.relay.survey import Findings

app = typer.Typer(invoke_without_command=True)


class RebuildStoppedError(WorkerError):
    """PostgreSQL or Kafka failed in the middle; the next run goes on from there."""


class HandOverStoppedError(WorkerError):
    """PostgreSQL or Kafka failed in the middle; where the relay's slot is gone by then, a rebuild makes it anew."""


@app.callback()
def relay(context: typer.Context) -> None:
    """Move facts and rejections from PostgreSQL's WAL to Kafka, exactly once. Stops on SIGTERM and Ctrl-C."""
    if context.invoked_subcommand is not None:
        return
    settings, status = Settings.from_environment(), RelayStatus()
    log_to_stderr(settings)
    collect_rarely()
    merge_freed_at_once()
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with observed(settings, status) as (scrape, observer), serve_health(settings.health_address, status.live, status.ready, scrape):
        run(settings, stop, status, observer)


@app.command()
def rebuild(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is missing and would be done; change nothing.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Publish what is in the outbox and not in the topics, and give the relay a slot and a watermark to go on from.

    For when the relay says so: its slot is lost or was dropped, topics were lost, the database was failed over or restored. No relay may
    run meanwhile. Interrupted, it is run again. It refuses where the topics hold facts that the database does not have, and where facts
    could only come in the wrong order.
    """
    only_errors_of_ours()
    settings = Settings.from_environment()
    try:
        with _progress() as tell:
            findings = rebuilding.rebuild(settings, tell, dry_run=dry_run)
    except (psycopg.Error, KafkaException) as error:
        raise RebuildStoppedError(f"the rebuild stopped: {_one_line(error)}; run it again") from error
    typer.echo(f"{findings.outbox_rows} rows in the outbox, {findings.records} records in the topics since then")
    for topic, count in findings.missing.items():
        typer.echo(f"  {count} {'missing from' if dry_run else 'published to'} {topic}")
    for reason in findings.reasons:
        typer.echo(f"  {reason}")
    typer.echo(_conclusion(findings, settings.relay_slot, dry_run=dry_run))


@app.command("hand-over")
def hand_over(
    successor: Annotated[str, typer.Argument(metavar="SLOT", help="Of whoever publishes from now on: the connector's slot.name.")],
) -> None:
    """Make a slot for Debezium that goes on where the relay ended, and drop the relay's.

    No relay may run meanwhile, nor afterwards: to take over again, stop the connector, drop its slot and run sre-domain relay rebuild.
    """
    only_errors_of_ours()
    settings = Settings.from_environment()
    try:
        position = make_successor(settings, successor)
    except (psycopg.Error, KafkaException) as error:
        raise HandOverStoppedError(f"the hand-over stopped: {_one_line(error)}; run it again, or a rebuild if it says so") from error
    typer.echo(f"slot {successor} goes on at {format_lsn(position)}; slot {settings.relay_slot} is dropped")


def _one_line(error: psycopg.Error | KafkaException) -> str:
    return str(error.args[0].str()) if isinstance(error, KafkaException) else " ".join(str(error).split())


def _conclusion(findings: Findings, slot: str, *, dry_run: bool) -> str:
    if findings.nothing_to_do:
        return "nothing is missing and the relay can go on: nothing was changed"
    if dry_run:
        return f"a rebuild would publish what is missing, and make slot {slot} and its watermark anew; nothing was changed"
    return f"slot {slot} and its watermark are made anew: start the relay"


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar a step where somebody looks on, else a line a tenth of it; on stderr."""
    console = Console(stderr=True, markup=False, highlight=False)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    bars: dict[str, TaskID] = {}
    tenths: dict[str, int] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        def tell(step: str, done: int, total: int) -> None:
            if step not in bars:
                bars[step] = progress.add_task(step)
            progress.update(bars[step], completed=done, total=total)
            tenth = 10 * done // max(total, 1)
            if not console.is_terminal and tenths.get(step) != tenth:
                tenths[step] = tenth
                console.print(f"{step}: {done} of {total}")

        yield tell
