"""`sre-domain migrate`, `topics` and `dev`: what the worker and the relay need before they start, and all of it on one machine."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from worker.devstack.stack import Broker, running_stack
from worker.domain.aggregate import AGGREGATES
from worker.logs import only_errors_of_ours
from worker.postgres.migrate import expand
from worker.postgres.migrate import migrate as migrate_database
from worker.relay.slot import ensure_slot
from worker.settings import DatabaseSettings, KafkaSettings
from worker.topic_admin import make_topics
from worker.topics import PARTITIONS, topic_specs

if TYPE_CHECKING:
    from types import FrameType

    from worker.devstack.stack import Stack

_TEND_SECONDS = 0.2
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Partitions = Annotated[int | None, typer.Option(min=1, help=f"Of new topics, {PARTITIONS} unless given; never changes later.")]
ChosenBroker = Annotated[Broker, typer.Option(help="tansu starts at once and keeps all in memory; apache needs Java 17 and Maven.")]
Pre = Annotated[bool, typer.Option("--pre", help="Up to the first post migration: while workers of the version before still run.")]
DataDir = Annotated[Path, typer.Option(help="Takes the data, the logs, and the settings as a file to source: env.", file_okay=False)]


def migrate(pre: Pre = False) -> None:  # noqa: FBT002 - a flag
    """Bring the database's schema up to date and make the relay's slot. Refuses a database that a newer version has migrated."""
    settings = DatabaseSettings.from_environment()
    applied = expand(settings.migration_dsn) if pre else migrate_database(settings.migration_dsn)
    for name in applied:
        typer.echo(f"applied {name}")
    if not applied:
        typer.echo("nothing is to be added before the roll-out" if pre else "the schema is up to date")
    if ensure_slot(settings.relay_dsn, settings.relay_slot):
        typer.echo(f"made replication slot {settings.relay_slot}")


def topics(partitions: Partitions = None) -> None:
    """Make the topics that are missing. Names settings of existing ones that are not as they must be; the status is then 1."""
    only_errors_of_ours()
    report = make_topics(KafkaSettings.from_environment(), topic_specs(tuple(AGGREGATES)), partitions)
    for name in report.created:
        typer.echo(f"made {name}")
    for difference in report.differences:
        typer.echo(difference, err=True)
    if report.differences:
        raise typer.Exit(1)
    if not report.created:
        typer.echo("the topics are as they must be")


def dev(broker: ChosenBroker = Broker.TANSU, data_dir: DataDir = Path(".sre-domain")) -> None:
    """Run PostgreSQL, a broker, the worker and the relay here, until Ctrl-C."""
    stop_on_signals()
    try:
        with running_stack(broker, data_dir) as stack:
            _say_what_runs(stack)
            while True:
                stack.tend(typer.echo)
                time.sleep(_TEND_SECONDS)
    except KeyboardInterrupt:
        typer.echo("stopped")


def _say_what_runs(stack: Stack) -> None:
    for service in stack.services:
        typer.echo(f"{service.name} runs, log: {service.log}")
    typer.echo(f"settings, also in {stack.directory / 'env'}:")
    for name, value in stack.settings_environment.items():
        typer.echo(f"  {name}={value}")
    typer.echo("Ctrl-C stops it all")


def stop_on_signals() -> None:
    """Turn the first of them into KeyboardInterrupt and ignore those that follow, so that nothing interrupts the stopping."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        for number in _STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    under_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    for number in _STOP_SIGNALS:
        if not (number == signal.SIGHUP and under_nohup):
            signal.signal(number, interrupt)
