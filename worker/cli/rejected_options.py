"""The options that select rejections, and what every command over them begins with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from worker.dead_letters.finding import Selection
from worker.domain.fields import parse_rfc3339
from worker.domain.rejection import RejectionCode
from worker.envelope import TYPE_PREFIX
from worker.logs import only_errors_of_ours
from worker.printable import printable
from worker.registry import codec_of
from worker.settings import KafkaSettings

if TYPE_CHECKING:
    from datetime import datetime

    from worker.codec import Codec

Codes = Annotated[list[str] | None, typer.Option("--code", help="Only those with this code; may be given several times.")]
Tenant = Annotated[str | None, typer.Option(help="Only this tenant's.")]
Since = Annotated[str | None, typer.Option(help="Only those that were published then or later: an RFC 3339 time.")]
Until = Annotated[str | None, typer.Option(help="Only those that were published before then.")]
Name = Annotated[str | None, typer.Option("--id", help="Only this one: an intent's id, a rejection's, or topic/partition/offset.")]
IntentType = Annotated[str | None, typer.Option("--type", help="Only intents of this type: RecordSLIWindow.")]


def prepared() -> tuple[KafkaSettings, Codec]:
    only_errors_of_ours()
    settings = KafkaSettings.from_environment()
    return settings, codec_of(settings)


def selection_of(
    codes: list[str] | None, tenant: str | None, since: str | None, until: str | None, name: str | None, intent: str | None
) -> Selection:
    for code in codes or ():
        if code not in RejectionCode.__members__:
            raise typer.BadParameter(f"{printable(code)} is not a code (docs/contract.md, Codes)", param_hint="--code")
    return Selection(
        codes=frozenset(codes or ()),
        tenant_id=tenant,
        since=_time(since, "--since"),
        until=_time(until, "--until"),
        name=name,
        intent=None if intent is None else intent.removeprefix(TYPE_PREFIX).removesuffix("Requested"),
    )


def _time(text: str | None, option: str) -> datetime | None:
    try:
        return None if text is None else parse_rfc3339(text)
    except ValueError:
        raise typer.BadParameter("must be an RFC 3339 time, such as 2026-03-02T12:00:00Z", param_hint=option) from None


def complain(fault: str) -> None:
    typer.echo(f"passed over: {printable(fault)}", err=True)
