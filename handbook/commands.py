"""The reference of the command line: what each command says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer
from typer.main import get_command

from worker.cli.main import app

if TYPE_CHECKING:
    from collections.abc import Iterator

Command = Any  # of click, of which typer has a copy of its own


def commands_page() -> str:
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield "# Command line\n"
    yield "Every command as its `--help` has it. Settings are [`SRE_*` variables](../settings.md) and no options."
    yield "What ends with a status other than 0 says why on stderr, in one line; a wrong option is status 2.\n"
    for path, command in commands():
        yield f"## {path}\n"
        yield f"```text\n{_help(path, command)}\n```\n"


def commands() -> Iterator[tuple[str, Command]]:
    """Each command by its words, a group before what it holds."""
    yield from _under("sre-domain", get_command(app))


def _under(path: str, command: Command) -> Iterator[tuple[str, Command]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        if not inner.hidden:
            yield from _under(f"{path} {name}", inner)


def _help(path: str, command: Command) -> str:
    command.rich_markup_mode = None  # as plain text
    shown: str = command.get_help(typer.Context(command, info_name=path))
    return "\n".join(line.rstrip() for line in shown.splitlines())
