"""Argo CD Applications as commands: a health check of each, and the fleet state that they add up to.

Source: Argo CD, "Application specification" (spec.destination, status.health, status.sync, status.conditions).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from worker.domain.argocd_health import READINGS, UNASSESSED
from worker.domain.fields import is_ref
from worker.domain.fleetstate import HEALTH_COUNTS, RecordFleetState
from worker.domain.healthcheck import ARGOCD, MAX_CONDITIONS, HealthCondition, RecordHealthCheck
from worker.integrations.kubectl_output import CHANGES, DELETED, Item, KubectlOutputError, read_items

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

_GROUP: Final = "argoproj.io/"
_RESOURCE_VERSION: Final = re.compile(r"[0-9]{1,20}")
_OUT_OF_SYNC: Final = "OutOfSync"
_NO_NAMESPACE: Final = "-"
_TYPE_LENGTH: Final = 100
_MESSAGE_LENGTH: Final = 1000  # half of what a condition may hold: fifty such fit a message in any script
_CONTROL_BUT_LF_CR_TAB: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Application:
    """One version of an Application. `reported` is the health that Argo CD wrote, None where it wrote none yet."""

    item: int
    deleted: bool
    version: int | None
    argocd_namespace: str | None
    namespace: str
    name: str
    reported: str | None
    out_of_sync: bool
    conditions: tuple[HealthCondition, ...]

    @property
    def health(self) -> str:
        """One of Argo CD's six words."""
        return self.reported if self.reported is not None and self.reported in READINGS else UNASSESSED

    def ref(self, cluster: str) -> str:
        return f"{cluster}/{self.namespace}/{self.name}"

    def replaces(self, other: Application) -> bool:
        """Whether this version, behind `other` in the input, is the later one: by Kubernetes' number where both have one."""
        return self.version is None or other.version is None or self.version >= other.version


@dataclass(frozen=True, slots=True)
class Report:
    """What became of the items: each is an Application's latest version or an older one, or a deletion, or was left out (why, by item)."""

    items: int
    older: int
    deleted: int
    left_out: dict[int, str]


def read_applications(data: bytes) -> tuple[list[Application], Report]:
    """The Applications in what kubectl or Argo CD printed, each once, in order.

    Raises KubectlOutputError where an item is broken, and where there are items but none is an Application.
    """
    items = read_items(data)
    left_out: dict[int, str] = {}
    latest: dict[tuple[str | None, str], Application] = {}
    older = 0
    for item in items:
        reason = _why_not(item)
        if reason is not None:
            left_out[item.number] = reason
            continue
        application = _application(item)
        key = (application.argocd_namespace, application.name)
        older += key in latest
        if key not in latest or application.replaces(latest[key]):
            latest[key] = application
    if items and not latest:
        raise KubectlOutputError("holds no Argo CD Application")
    applications = [application for application in latest.values() if not application.deleted]
    return applications, Report(len(items), older, len(latest) - len(applications), left_out)


def health_checks(applications: Iterable[Application], cluster: str, timestamp: datetime) -> list[RecordHealthCheck]:
    """One check a ref: of Applications that share one (of one name, in several namespaces of Argo CD), the first is taken.

    Raises KubectlOutputError for an Application whose names make no ref.
    """
    checks: dict[str, RecordHealthCheck] = {}
    for application in applications:
        ref = application.ref(cluster)
        if not is_ref(ref):
            raise KubectlOutputError(f"item {application.item}: {ref!r:.200} is no cluster/namespace/app")
        if ref not in checks:
            checks[ref] = RecordHealthCheck(
                resource_ref=ref,
                source=ARGOCD,
                timestamp=timestamp,
                status=READINGS[application.health].status,
                raw_status=application.health,
                conditions=application.conditions,
            )
    return list(checks.values())


def fleet_state(applications: Sequence[Application], environment: str, cluster: str, timestamp: datetime) -> RecordFleetState:
    counts = Counter(READINGS[application.health].counted_as for application in applications)
    return RecordFleetState(
        environment_id=environment,
        cluster_id=cluster,
        timestamp=timestamp,
        total_applications=len(applications),
        **{name: counts[name] for name in HEALTH_COUNTS},
        out_of_sync_count=sum(application.out_of_sync for application in applications),
    )


def _why_not(item: Item) -> str | None:
    """Why an item is left out; None for an Application. Argo CD's API names neither kind nor apiVersion."""
    if item.event not in (None, *CHANGES):
        return f"{item.event}, no change"
    kind, group = item.object.get("kind"), item.object.get("apiVersion")
    if kind is None and group is None and "spec" in item.object:
        return None
    if kind == "Application" and (group is None or (isinstance(group, str) and group.startswith(_GROUP))):
        return None
    named = isinstance(kind, str) and kind.isidentifier() and isinstance(group, str | None)
    return f"{kind:.80} of {group!r:.80}" if named else "an object of no kind"


def _application(item: Item) -> Application:
    metadata = _part(item, item.object, "metadata")
    name, version = _text(item, metadata, "name"), metadata.get("resourceVersion")
    if name is None:
        raise item.broken("metadata.name is missing")
    destination = _part(item, _part(item, item.object, "spec"), "destination")
    status = _part(item, item.object, "status")
    return Application(
        item=item.number,
        deleted=item.event == DELETED,
        version=int(version) if isinstance(version, str) and _RESOURCE_VERSION.fullmatch(version) else None,
        argocd_namespace=_text(item, metadata, "namespace"),
        namespace=_text(item, destination, "namespace") or _NO_NAMESPACE,
        name=name,
        reported=_text(item, _part(item, status, "health"), "status"),
        out_of_sync=_text(item, _part(item, status, "sync"), "status") == _OUT_OF_SYNC,
        conditions=tuple(_conditions(item, status)),
    )


def _conditions(item: Item, status: dict[str, Any]) -> Iterator[HealthCondition]:
    """The first fifty of Argo CD's conditions, which hold while they are listed."""
    listed = status.get("conditions") or []
    if not isinstance(listed, list):
        raise item.broken("conditions must be a list")
    for condition in listed[:MAX_CONDITIONS]:
        if not isinstance(condition, dict):
            raise item.broken("conditions must be a list of objects")
        kind, message = _text(item, condition, "type"), _text(item, condition, "message")
        if kind is None or not _printable(kind).strip():
            raise item.broken("a condition has no type")
        line = " ".join(_printable(kind).split())
        yield HealthCondition(type=line[:_TYPE_LENGTH].strip(), status="true", message=_printable(message or "")[:_MESSAGE_LENGTH])


def _printable(text: str) -> str:
    """Without what the contract's texts may not hold: control characters, and the half pairs that JSON can spell."""
    return _CONTROL_BUT_LF_CR_TAB.sub(" ", text.encode(errors="replace").decode())


def _part(item: Item, of: dict[str, Any], name: str) -> dict[str, Any]:
    """A field that holds an object; empty where it is absent."""
    part = of.get(name)
    if part is None or part == "":
        return {}
    if not isinstance(part, dict):
        raise item.broken(f"{name} must be an object")
    return part


def _text(item: Item, of: dict[str, Any], name: str) -> str | None:
    """A field that holds text; None where it is absent or empty."""
    text = of.get(name)
    if text is not None and not isinstance(text, str):
        raise item.broken(f"{name} must be text")
    return text or None
