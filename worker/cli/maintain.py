"""`sre-domain maintain`: what the workers also do by themselves every hour. One shot."""

from __future__ import annotations

import asyncio

import typer

from worker.logs import only_errors_of_ours
from worker.postgres.maintenance import maintain as maintain_database
from worker.postgres.maintenance_timer import retention_of
from worker.settings import RetentionSettings


def maintain() -> None:
    """Make the coming partitions of inbox and outbox, and drop those past their retention. The status is 1 where something is left."""
    only_errors_of_ours()
    settings = RetentionSettings.from_environment()
    report = asyncio.run(maintain_database(settings.migration_dsn, retention_of(settings)))
    if report.at_work:
        typer.echo("another one is at it: nothing to do")
        return
    for part in report.made:
        typer.echo(f"made {part}")
    for part in report.dropped:
        typer.echo(f"dropped {part}")
    if report.deleted_rows:
        typer.echo(f"deleted {report.deleted_rows} rows of the default partitions")
    for line in report.left:
        typer.echo(line, err=True)
    if report.left:
        raise typer.Exit(1)
    if not (report.made or report.dropped or report.deleted_rows):
        typer.echo("the partitions are as they must be")
