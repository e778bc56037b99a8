"""`sre-domain rejected`: what was refused, listed, shown and sent again."""

from __future__ import annotations

import heapq
import json
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.cli.bus import Follow, FromBeginning, print_rejected
from worker.cli.rejected_options import Codes, IntentType, Name, Since, Tenant, Until, complain, prepared, selection_of
from worker.cli.rejected_page import page_of
from worker.cli.rejected_replay import replay
from worker.dead_letters.finding import find
from worker.errors import WorkerError
from worker.messages import rejection_as_json
from worker.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from confluent_kafka import Message

    from worker.codec import Codec
    from worker.dead_letters.letters import Letter

_KEY_SHOWN: Final = 64
_WIDE: Final = 2000  # an id that is folded can't be copied: long lines are the terminal's to wrap

app = typer.Typer(invoke_without_command=True)
AsJson = Annotated[bool, typer.Option("--json", help="JSON lines.")]


class NothingFoundError(WorkerError):
    """No rejection in the topic goes by the name that was given."""


@app.callback()
def rejected(
    context: typer.Context,
    from_beginning: FromBeginning = False,  # noqa: FBT002 - a command-line flag
    follow: Follow = False,  # noqa: FBT002 - a command-line flag
) -> None:
    """Print refused intents as JSON lines, with the reason and the record as it was received; or list, show and replay them."""
    if context.invoked_subcommand is None:
        print_rejected(from_beginning=from_beginning, follow=follow)
    elif from_beginning or follow:
        raise typer.BadParameter(f"is not for {context.invoked_subcommand}", param_hint="--from-beginning, --follow")


@app.command("list")
def list_(  # noqa: PLR0913, PLR0917 - options of a command
    code: Codes = None,
    tenant: Tenant = None,
    since: Since = None,
    until: Until = None,
    name: Name = None,
    intent: IntentType = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="So many of the newest.")] = 50,
    as_json: AsJson = False,  # noqa: FBT002 - a command-line flag
) -> None:
    """List rejections, the newest last."""
    settings, codec = prepared()
    newest = _newest(find(settings, selection_of(code, tenant, since, until, name, intent), codec, complain), limit)
    if as_json:
        for _, message in newest:
            _print_json(message, codec)
        return
    table = Table("published", "code", "tenant", "type", "aggregate", "id", box=None, pad_edge=False)
    for letter, _ in newest:
        table.add_row(*(Text(printable(cell), no_wrap=True) for cell in _cells(letter)))
    Console(width=_WIDE).print(table)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="An intent's id, a rejection's, or the refused record's topic/partition/offset.")],
    tenant: Tenant = None,
    since: Since = None,
    as_json: AsJson = False,  # noqa: FBT002 - a command-line flag
) -> None:
    """Show all there is to know about a rejection: why, where the record lies, its headers, and its value decoded where it can be."""
    settings, codec = prepared()
    is_found = False
    for letter, message in find(settings, selection_of(None, tenant, since, None, name, None), codec, complain):
        is_found = True
        if as_json:
            _print_json(message, codec)
        else:
            sys.stdout.write(page_of(letter, codec) + "\n")
    if not is_found:
        raise NothingFoundError(f"no rejection goes by {printable(name)}: `sre-domain rejected list` shows those there are")


app.command()(replay)


def _newest(found: Iterable[tuple[Letter, Message]], limit: int) -> list[tuple[Letter, Message]]:
    """The newest, oldest first; no more than those are kept at a time."""
    return heapq.nlargest(limit, found, key=lambda one: (one[0].time, one[0].partition, one[0].offset))[::-1]


def _cells(letter: Letter) -> tuple[str, ...]:
    """The last one is what `show` and --id take."""
    key = (letter.rejection.key or b"").decode(errors="replace")[:_KEY_SHOWN]
    name = letter.intent_id or letter.position
    return f"{letter.time:%Y-%m-%dT%H:%M:%SZ}", letter.rejection.code, letter.tenant_id or "-", letter.type or "-", key, name


def _print_json(message: Message, codec: Codec) -> None:
    item: dict[str, Any] = rejection_as_json(message, codec)
    typer.echo(json.dumps(item))  # ASCII, so that nothing in it can speak to a terminal
