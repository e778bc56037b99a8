"""`sre-domain doctor`: what is wrong with a set-up, and what to do about it. Changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from worker.cli.config import unknown_variables
from worker.doctor.checks import checks
from worker.doctor.examination import examine
from worker.doctor.finding import Status
from worker.logs import only_errors_of_ours
from worker.printable import printable, printable_json

if TYPE_CHECKING:
    from worker.doctor.finding import Finding

_STATUS_WIDTH: Final = max(len(status) for status in Status)
_NAME_WIDTH: Final = 22


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object in place of lines.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Check settings, PostgreSQL, Kafka and what lies in them: a line each, and for a problem what to do. The status is 1 where one fails.

    Run it with a service's settings to see what that service would meet. It writes nothing, anywhere.
    """
    only_errors_of_ours()
    found: list[tuple[str, Finding]] = []
    for name, finding in examine(checks(unknown_variables())):
        found.append((name, finding))
        if not as_json:
            _say(name, finding)
    failed = sum(finding.status is Status.FAIL for _, finding in found)
    if as_json:
        typer.echo(printable_json({"status": "fail" if failed else "ok", "checks": [_as_json(*one) for one in found]}))
    if failed:
        raise typer.Exit(1)


def _say(name: str, finding: Finding) -> None:
    typer.echo(printable(f"{finding.status:<{_STATUS_WIDTH}}  {name:<{_NAME_WIDTH}}  {finding.what}"))
    if finding.do is not None:
        typer.echo(printable(f"{'':<{_STATUS_WIDTH + _NAME_WIDTH + 4}}do: {finding.do}"))


def _as_json(name: str, finding: Finding) -> dict[str, Any]:
    return {"check": name, "status": finding.status.value, "what": finding.what, "do": finding.do}
