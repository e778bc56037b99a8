"""`sre-domain import openslo`: SLO definitions that lie in files, turned into intents."""

from __future__ import annotations

from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from worker.cli.times import time_or_now
from worker.client import BusError, Intent, IntentPublisher, intent_id_of
from worker.domain.aggregate import intent_name
from worker.domain.fields import format_rfc3339
from worker.domain.slo import CreateSLO, UpdateSLO
from worker.errors import WorkerError
from worker.integrations.located_yaml import MAX_BYTES
from worker.integrations.openslo import read_openslo
from worker.logs import only_errors_of_ours
from worker.settings import KafkaSettings

if TYPE_CHECKING:
    from datetime import datetime

    from worker.integrations.openslo import Definition

SOURCE: Final = "/integrations/openslo"
ACTOR: Final = "import openslo"


class OpenSLOError(WorkerError):
    """A file can't be read, or holds what can't be imported; nothing was sent."""


def openslo(
    files: Annotated[list[str], typer.Argument(help="OpenSLO v1 documents, YAML or JSON, any number in a file.")],
    tenant: Annotated[str, typer.Option(help="Tenant of the SLOs.")],
    owner: Annotated[str | None, typer.Option(help="Owner of the SLOs that have neither of the labels owner and team.")] = None,
    update: Annotated[bool, typer.Option("--update", help="Change SLOs that exist; else create new ones.")] = False,  # noqa: FBT002
    time: Annotated[str | None, typer.Option(help="When it was asked, RFC 3339; else now. Repeat it to repeat a run.")] = None,
) -> None:
    """Create (or with --update change) the SLOs that OpenSLO documents define; metadata.name becomes the SLO's id.

    Supported: ratio metrics, one objective, rolling windows of 7, 28 or 30 days, slices of 1 or 5 minutes. Everything else is refused by
    file, line and name, all of it in one run, and then nothing is sent. Other kinds than SLO and SLI are skipped.

    Creating an SLO that exists is refused by the worker (SLO_ALREADY_EXISTS), as is changing one that does not (SLO_NOT_FOUND); either
    leaves everything as it is. To say again what is so already changes nothing. A changed indicator restarts the SLO's budget.

    The same documents with the same --time are the same intents: however often they are sent, they count once. A pipeline may give the
    time of its commit.
    """
    only_errors_of_ours()
    settings, asked_at = KafkaSettings.from_environment(), time_or_now(time, "--time")
    command = UpdateSLO if update else CreateSLO
    reading = read_openslo([(file, _content(file)) for file in files], command, ACTOR, owner)
    for note in reading.skipped:
        typer.echo(f"{note} (skipped)")
    if reading.refusals:
        raise OpenSLOError("\n".join(("nothing was sent:", *(str(refusal) for refusal in reading.refusals))))
    if reading.definitions:
        try:
            with IntentPublisher(settings) as publisher:
                publisher.publish([_intent(definition, tenant, asked_at) for definition in reading.definitions])
        except BusError as error:
            raise OpenSLOError(f"{error}; repeat the run with --time {format_rfc3339(asked_at)}") from None
    typer.echo(f"{len(reading.definitions)} {intent_name(command)} published")


def _intent(definition: Definition, tenant: str, asked_at: datetime) -> Intent:
    name, content = intent_name(type(definition.command)), sha256(repr(asdict(definition.command)).encode()).hexdigest()
    key = "/".join((tenant, definition.slo_id, name, format_rfc3339(asked_at), content))
    return Intent(name, tenant, definition.slo_id, definition.command, SOURCE, intent_id_of(SOURCE, key), asked_at)


def _content(file: str) -> bytes:
    """As much of a file as tells whether it is too large."""
    try:
        with Path(file).open("rb") as content:
            return content.read(MAX_BYTES + 1)
    except OSError as error:
        raise OpenSLOError(f"{file}: {error.strerror}") from None
