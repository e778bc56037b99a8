"""The commands by name, and what an error looks like to the person who typed one."""

from __future__ import annotations

import sys

import typer

from worker.cli import bridge, bus, demo, imports, maintain, poll, query, rejected, relay, stack, sweep, worker
from worker.errors import WorkerError

app = typer.Typer(
    name="sre-domain",
    help="System of record of an SRE organisation: intents in from Kafka, state in PostgreSQL, facts out through its WAL.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.command(rich_help_panel="Services")(worker.worker)
app.add_typer(relay.app, name="relay", rich_help_panel="Services")
app.command(rich_help_panel="Services")(sweep.sweep)
app.add_typer(bridge.app, name="bridge", rich_help_panel="Sources")
app.add_typer(poll.app, name="poll", rich_help_panel="Sources")
app.add_typer(imports.app, name="import", rich_help_panel="Sources")
app.command(rich_help_panel="Set-up")(stack.migrate)
app.command(rich_help_panel="Set-up")(stack.topics)
app.command(rich_help_panel="Set-up")(maintain.maintain)
app.command(rich_help_panel="Try it")(demo.demo)
app.command(rich_help_panel="Try it")(stack.dev)
app.command(rich_help_panel="The bus, for people")(bus.publish)
app.command(rich_help_panel="The bus, for people")(bus.facts)
app.add_typer(rejected.app, name="rejected", rich_help_panel="The bus, for people")
app.add_typer(query.app, name="query", rich_help_panel="The bus, for people")


def main() -> None:
    """Run the command line; the entry point of the distribution."""
    try:
        app()
    except WorkerError as error:
        sys.stderr.write(f"sre-domain: {error}\n")
        sys.exit(1)
    except BrokenPipeError:  # the reader of our output has gone: `sre-domain facts | head`
        sys.stderr.close()
        sys.exit(0)
