"""`sre-domain rejected replay`: refused records sent again, bounded, paced and confirmed."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from worker.cli.rejected_options import Codes, IntentType, Name, Since, Tenant, Until, complain, prepared, selection_of
from worker.client import publish_as_is, signer_of
from worker.dead_letters.finding import Selection, find
from worker.dead_letters.replay import LeftOut, Resend, replays
from worker.errors import WorkerError
from worker.printable import printable
from worker.registry import RegistryAwayError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from confluent_kafka import Message

    from worker.client import Outgoing
    from worker.dead_letters.letters import Letter

_PER_SECOND: Final = 500  # a fraction of what one worker takes, so that a replay holds up nobody's intents
_PLAIN_EVERY: Final = 1000


class TooManyError(WorkerError):
    """More is selected than a replay may send; nothing was sent."""


class IncompleteError(WorkerError):
    """Some of what was selected was not sent, since sending it would not help."""


def replay(  # noqa: PLR0913, PLR0917 - options of a command
    code: Codes = None,
    tenant: Tenant = None,
    since: Since = None,
    until: Until = None,
    name: Name = None,
    intent: IntentType = None,
    limit: Annotated[int, typer.Option(min=1, help="Send nothing where more than this are selected.")] = 1000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and under which id; send nothing.")] = False,  # noqa: FBT002
    restamp: Annotated[  # noqa: FBT002 - a command-line flag
        bool, typer.Option("--restamp", help="INTENT_EXPIRED, TIMESTAMP_IN_FUTURE: ask as of the time at which Kafka took the record.")
    ] = False,
) -> None:
    """Send the refused records that are selected again, their bytes as they were.

    A record keeps its id where the rejection did not use it up (INTERNAL_ERROR, for one). Else it gets another that follows from the old id
    and the content. Either way a replay that is repeated, or taken up after it was interrupted, is the same intents: nothing is done twice.
    What the worker would refuse whatever the state is, is left out; the exit status is 1 then.

    A record with its own id keeps its own signature. Any other is signed with the key of SRE_SIGNING_KEY_FILE, where it is set: it asks in
    your name. A record that was refused for who asked is never signed anew.
    """
    settings, codec = prepared()
    signer = signer_of(settings)
    selection = selection_of(code, tenant, since, until, name, intent)
    if selection == Selection() and not dry_run:
        raise typer.BadParameter("say which: --code, --tenant, --since, --until, --id or --type", param_hint="replay")
    places, refused = _places(find(settings, selection, codec, complain), limit)
    letters = (letter for letter, _ in find(settings, selection, codec, complain) if (letter.partition, letter.offset) in places)
    tally: Counter[str] = Counter()
    faults = 0

    def resends() -> Iterator[Resend]:
        nonlocal faults
        for outcome in replays(letters, refused, codec, datetime.now(UTC), signer, restamp=restamp):
            if isinstance(outcome, Resend):
                yield outcome
                continue
            faults += outcome.is_fault
            tally[outcome.reason] += 1
            if dry_run:
                _say(outcome)

    try:
        sent = sum(map(_say, resends())) if dry_run else publish_as_is(settings, _paced(resends(), len(places)))
    except RegistryAwayError as error:
        raise WorkerError(str(error)) from None
    typer.echo(f"{_count(len(places), 'rejection')} selected, {_count(sent, 'intent')} {'to send' if dry_run else 'sent'}")
    for reason, count in tally.most_common():
        typer.echo(f"  {count} left out: {printable(reason)}")
    if faults and not dry_run:
        raise IncompleteError(f"{_count(faults, 'intent')} can't be replayed as they are: `sre-domain rejected show` says what is wrong")


def _places(found: Iterable[tuple[Letter, Message]], limit: int) -> tuple[set[tuple[int, int]], set[tuple[str, str]]]:
    """Where the selected rejections lie, so that their bytes need not be kept, and the intents that they are of."""
    places, refused = set(), set()
    for letter, _ in found:
        places.add((letter.partition, letter.offset))
        if len(places) > limit:
            raise TooManyError(f"more than {limit} rejections are selected, and nothing was sent: select fewer, or allow more with --limit")
        if letter.tenant_id is not None and letter.intent_id is not None:
            refused.add((letter.tenant_id, letter.intent_id))
    return places, refused


def _paced(resends: Iterable[Resend], total: int) -> Iterator[Outgoing]:
    """The records at the pace of a replay, with a bar where somebody looks on, else a line now and then; both on stderr."""
    console = Console(stderr=True, markup=False, highlight=False)
    columns = TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    began = time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("replaying", total=total)
        for number, resend in enumerate(resends, start=1):
            time.sleep(max(0.0, began + number / _PER_SECOND - time.monotonic()))
            yield resend.outgoing
            progress.update(bar, completed=number)
            if number % _PLAIN_EVERY == 0 and not console.is_terminal:
                console.print(f"{number} of at most {total} on their way")


def _say(outcome: Resend | LeftOut) -> int:
    """A line of a dry run; 1 for what would be sent."""
    letter = outcome.letter
    told = [letter.rejection.code, letter.type or "-", letter.intent_id or letter.position]
    if isinstance(outcome, LeftOut):
        told.append(f"left out: {outcome.reason}")
    else:
        told.append(f"as {outcome.intent_id}" if outcome.is_renamed else "under its own id")
    typer.echo("  ".join(printable(part) for part in told))
    return int(isinstance(outcome, Resend))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
