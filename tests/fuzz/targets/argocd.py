"""What kubectl or Argo CD printed: intents that the worker would take, or why there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.records import CODEC, NOW
from worker.cli.import_argocd import _check_intent, _intent, summary
from worker.domain.fleetstate import stream_id
from worker.integrations.argocd import fleet_state, health_checks, read_applications
from worker.integrations.kubectl_output import KubectlOutputError
from worker.intents import to_valid_outgoing
from worker.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator


def check(data: bytes) -> None:
    try:
        applications, report = read_applications(data)
        checks = health_checks(applications, "prod", NOW)
        fleet = fleet_state(applications, "production", "prod", NOW)
        intents = [_intent(fleet, "acme", stream_id("acme", "production", "prod")), *(_check_intent(one, "acme") for one in checks[:5])]
    except KubectlOutputError as error:
        printable(str(error)).encode()
        return
    for line in summary(report, applications, fleet):
        assert printable(line).isprintable()
    for intent in intents:
        to_valid_outgoing(intent, CODEC)


def seeds() -> Iterator[bytes]:
    application = (
        b'{"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": {"name": "a", "namespace": "argocd", '
        b'"resourceVersion": "7"}, "spec": {"destination": {"namespace": "n"}}, "status": {"health": {"status": "Healthy"}, '
        b'"sync": {"status": "OutOfSync"}, "conditions": [{"type": "SyncError", "message": "m"}]}}'
    )
    yield application
    yield b'{"items": [' + application + b'], "metadata": {"continue": ""}}'
    yield b'{"type": "DELETED", "object": ' + application + b"}"
    yield b'{"result": {"type": "ADDED", "application": ' + application + b"}}"
    yield b"apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: a}\nspec: {}\n---\nnull\n"
