"""`sre-domain import`: a source that lies in a file, turned into intents."""

from __future__ import annotations

import gzip
import sys
import zlib
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final, cast

import typer

from worker.cli.import_argocd import argocd
from worker.cli.import_openslo import openslo
from worker.client import Intent, intent_from_fields, publish, to_outgoing
from worker.domain.aggregate import intent_name
from worker.domain.rejection import Rejection
from worker.domain.sli_ledger import WIDTHS
from worker.domain.slo import RecordSLIWindow
from worker.errors import WorkerError
from worker.integrations.access_log import Report, Window, count_requests, read_lines
from worker.logs import only_errors_of_ours
from worker.registry import codec_of
from worker.settings import KafkaSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE: Final = "/integrations/access-log"

app = typer.Typer(no_args_is_help=True)
app.command()(argocd)
app.command()(openslo)


class ImportFileError(WorkerError):
    """The file can't be read, or is not what it should be; nothing was sent."""


@app.callback()
def imports() -> None:
    """Turn a file of real data into intents."""


@app.command("access-log")
def access_log(
    file: Annotated[str, typer.Argument(help="HTTP access log in common or combined format, .gz too; - reads standard input.")],
    slo: Annotated[str, typer.Option(help="Id of the SLO that the windows are recorded on.")],
    tenant: Annotated[str, typer.Option(help="Its tenant.")],
    width: Annotated[int, typer.Option(help="Seconds in a window: 60 or 300.")] = 60,
    revision: Annotated[int, typer.Option(help="Give a higher one to correct windows that were recorded before.")] = 0,
) -> None:
    """Record an access log's windows: total = requests, good = those with a status below 500.

    Lines may be in any order. Broken lines are counted and the first ones named; minutes without a request are left out.
    Give the files of a rotated log together (cat access.log.1 access.log): the minute of the rotation has lines in both.
    """
    only_errors_of_ours()
    if width not in WIDTHS:
        raise typer.BadParameter("must be 60 or 300", param_hint="--width")
    settings = KafkaSettings.from_environment()
    codec = codec_of(settings)
    with _open_log(file) as log:
        windows, report = count_requests(read_lines(log), width)
    for line in summary(report):
        typer.echo(line)
    if report.broken and not report.parsed:
        raise ImportFileError(f"{file}: no line is in common or combined log format")
    intents = [_intent(window, tenant, slo, revision) for window in windows]
    published = publish(settings, [to_outgoing(intent, codec) for intent in intents])
    typer.echo(f"{len(windows)} windows of {width} s, {published} intents published")


def summary(report: Report) -> Iterator[str]:
    """What became of the lines, for people."""
    span = f"; {report.first:%Y-%m-%dT%H:%M:%SZ} to {report.last:%Y-%m-%dT%H:%M:%SZ}" if report.first and report.last else ""
    yield f"{report.lines} lines: {report.parsed} parsed, {report.broken} broken, {report.out_of_order} out of order{span}"
    for broken in report.broken_lines:
        yield f"  line {broken.number} {broken.reason}"
    if report.broken > len(report.broken_lines):
        yield f"  and {report.broken - len(report.broken_lines)} more"


def _intent(window: Window, tenant: str, slo: str, revision: int) -> Intent:
    fields = asdict(window) | {"revision": revision}
    intent = intent_from_fields(intent_name(RecordSLIWindow), tenant, slo, fields, source=SOURCE)
    if isinstance(intent, Rejection):
        options = {"ce_tenantid": "--tenant", "ce_subject": "--slo", "revision": "--revision"}
        faults = (f"{options.get(fault.field, fault.field)}: {fault.message}" for fault in intent.violations)
        raise ImportFileError("; ".join(faults))
    return intent


@contextmanager
def _open_log(path: str) -> Iterator[BinaryIO]:
    try:
        if path == "-":
            yield sys.stdin.buffer
        elif path.endswith(".gz"):
            with gzip.open(path) as log:
                yield cast("BinaryIO", log)
        else:
            with Path(path).open("rb") as log:
                yield log
    except (OSError, EOFError, zlib.error) as error:
        raise ImportFileError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
