"""`sre-domain import argocd`: Argo CD's Applications as health checks and one fleet state."""

from __future__ import annotations

import sys
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from worker.cli.times import time_or_now
from worker.client import Intent, intent_from_fields, intent_id_of, publish, to_outgoing
from worker.domain.aggregate import intent_name
from worker.domain.argocd_health import READINGS
from worker.domain.fields import format_rfc3339, is_ref
from worker.domain.fleetstate import HEALTH_COUNTS, RecordFleetState, stream_id
from worker.domain.healthcheck import RecordHealthCheck, healthcheck_id
from worker.domain.rejection import Rejection
from worker.integrations.argocd import Application, Report, fleet_state, health_checks, read_applications
from worker.integrations.kubectl_output import MAX_BYTES, KubectlOutputError
from worker.logs import only_errors_of_ours
from worker.printable import printable
from worker.registry import codec_of
from worker.settings import KafkaSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SOURCE: Final = "/integrations/argocd"
NAMED: Final = 10

_OPTIONS: Final = {"ce_tenantid": "--tenant", "environment_id": "--environment", "cluster_id": "--cluster"}


def argocd(
    file: Annotated[str, typer.Argument(help="What `kubectl get applications -A -o json` (or yaml) printed; - reads standard input.")],
    tenant: Annotated[str, typer.Option(help="Tenant of the health checks and the fleet state.")],
    environment: Annotated[str, typer.Option(help="Environment that the cluster is counted in.")],
    cluster: Annotated[str, typer.Option(help="The cluster, as its fleet state and its applications' refs name it.")],
    at: Annotated[
        str | None, typer.Option(help="When the list was taken, RFC 3339; else now. A retry with the same time adds nothing.")
    ] = None,
) -> None:
    """Record the health of each Argo CD Application in a list, and the fleet state that they add up to.

    The list is taken as the whole cluster. Watch events and API answers are read too; of several versions of an Application the latest
    counts. One without health counts as unknown.
    """
    only_errors_of_ours()
    if "/" in cluster or not is_ref(cluster):
        raise typer.BadParameter("must be letters, digits and ._- , and begin and end with a letter or digit", param_hint="--cluster")
    for option, given in (("--tenant", tenant), ("--environment", environment)):
        if not given.isascii():  # the ids that follow from them need text that can be encoded
            raise typer.BadParameter("must be letters, digits and ._-", param_hint=option)
    timestamp = time_or_now(at, "--at")
    settings = KafkaSettings.from_environment()
    codec = codec_of(settings)
    try:
        applications, report = read_applications(_read(file))
        checks = health_checks(applications, cluster, timestamp)
    except KubectlOutputError as error:
        raise KubectlOutputError(f"{file}: {error}") from None
    fleet = fleet_state(applications, environment, cluster, timestamp)
    subject = stream_id(tenant, environment, cluster)
    intents = [_intent(fleet, tenant, subject), *(_check_intent(check, tenant) for check in checks)]
    for line in summary(report, applications, fleet):
        typer.echo(printable(line))
    typer.echo(f"1 fleet state and {_count(len(checks), 'health check')}, as of {format_rfc3339(timestamp)}")  # a retry needs the time
    published = publish(settings, [to_outgoing(intent, codec) for intent in intents])
    typer.echo(f"{_count(published, 'intent')} published")


def summary(report: Report, applications: Sequence[Application], fleet: RecordFleetState) -> Iterator[str]:
    """What became of the items, for people."""
    yield (
        f"{_count(report.items, 'item')}: {_count(len(applications), 'Application')}, {_count(report.older, 'older version')}, "
        f"{report.deleted} deleted, {len(report.left_out)} left out"
    )
    yield from _first(f"  item {number}: {reason}" for number, reason in report.left_out.items())
    split = ", ".join(f"{getattr(fleet, name)} {name.removesuffix('_count')}" for name in HEALTH_COUNTS)
    yield f"{_count(fleet.total_applications, 'Application')}: {split}; {fleet.out_of_sync_count} out of sync"
    without = sum(application.reported is None for application in applications)
    if without:
        yield f"  unknown for want of any health: {without}"
    strange = [application for application in applications if application.reported is not None and application.reported not in READINGS]
    yield from _first(f"  {one.name}: unknown, since {one.reported!r:.80} is none of Argo CD's health states" for one in strange)
    unchecked = len(applications) - len({application.ref("") for application in applications})
    if unchecked:
        yield f"  counted without a check, since another has the same namespace and name: {unchecked}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _first(lines: Iterator[str]) -> Iterator[str]:
    yield from islice(lines, NAMED)
    more = sum(1 for _ in lines)
    if more:
        yield f"  and {more} more"


def _read(file: str) -> bytes:
    """All of it, or one byte more than is accepted."""
    try:
        if file == "-":
            return sys.stdin.buffer.read(MAX_BYTES + 1)
        with Path(file).open("rb") as source:
            return source.read(MAX_BYTES + 1)
    except OSError as error:
        raise KubectlOutputError(error.strerror or str(error)) from None


def _check_intent(check: RecordHealthCheck, tenant: str) -> Intent:
    return _intent(check, tenant, healthcheck_id(tenant, check.resource_ref, check.source))


def _intent(command: RecordFleetState | RecordHealthCheck, tenant: str, subject: str) -> Intent:
    """The same tenant, subject and time are the same intent."""
    rest = {
        "source": SOURCE,
        "intent_id": intent_id_of(SOURCE, f"{tenant} {subject} {format_rfc3339(command.timestamp)}"),
        "time": command.timestamp,
    }
    intent = intent_from_fields(intent_name(type(command)), tenant, subject, asdict(command), **rest)
    if isinstance(intent, Rejection):
        raise KubectlOutputError("; ".join(f"{_OPTIONS.get(fault.field, fault.field)}: {fault.message}" for fault in intent.violations))
    return intent
