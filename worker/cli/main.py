"""`sre-domain`, and what an error looks like to the person who typed a command."""

from __future__ import annotations

import re
import sys
from importlib.metadata import version
from io import TextIOWrapper
from typing import TYPE_CHECKING, Annotated, Final

import typer
from confluent_kafka import KafkaException

from worker.cli.commands import Commands
from worker.errors import WorkerError
from worker.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

_USAGE: Final = 2
_OBEYED: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def _say_version(asked: bool) -> None:  # noqa: FBT001 - as typer calls it
    if asked:
        typer.echo(f"sre-domain {version('sre-domain')}")
        raise typer.Exit


app = typer.Typer(
    name="sre-domain",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def sre_domain(
    show_version: Annotated[  # noqa: FBT002 - a flag, answered before anything else is looked at
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Print the version and leave.")
    ] = False,
) -> None:
    """System of record of an SRE organisation: intents in from Kafka, state in PostgreSQL, facts out through its WAL."""


def main() -> None:
    """Run the command line; the entry point of the distribution."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what the terminal's encoding lacks, and half surrogate pairs
    _refuse_what_a_terminal_obeys(sys.argv[1:])
    try:
        app()
    except WorkerError as error:
        lines = "\n".join(map(printable, str(error).split("\n")))
        sys.stderr.write(f"sre-domain: {lines}\n")
        sys.exit(1)
    except KafkaException as error:  # of a client that can't be made with these settings
        sys.stderr.write(f"sre-domain: Kafka: {printable(error.args[0].str())}\n")
        sys.exit(1)
    except BrokenPipeError:  # the reader of our output has gone: `sre-domain facts | head`
        sys.stderr.close()
        sys.exit(0)


def _refuse_what_a_terminal_obeys(arguments: Iterable[str]) -> None:
    """Ahead of the parser, whose complaints repeat what they were given."""
    for argument in arguments:
        if _OBEYED.search(argument) is not None:
            sys.stderr.write(f"sre-domain: an argument holds a control character: {printable(argument)}\n")
            sys.exit(_USAGE)
