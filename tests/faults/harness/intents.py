"""What the load client asks for: intents of all six aggregates, most of them SLI windows, made as they are needed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from tests.support import incidents, records, runbooks
from worker.client import Intent, to_outgoing
from worker.domain.aggregate import intent_name
from worker.domain.alert import AcknowledgeAlert, IngestAlert, alert_id_of
from worker.domain.fleetstate import RecordFleetState, stream_id
from worker.domain.healthcheck import RecordHealthCheck, healthcheck_id
from worker.domain.ids import uid
from worker.domain.runbook_execution import ApproveRunbookExecution, RecordRunbookExecutionResult
from worker.domain.slo import RecordSLIWindow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from worker.envelope import Header

_DAYS_BACK = timedelta(days=10)
_WINDOWS_OF_TEN = 0.85
_RECENT = 6


class Publication(NamedTuple):
    """A record as it goes out; anything may be missing or wrong in it."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header]


@dataclass(slots=True, kw_only=True)
class Tenant:
    """One tenant's aggregates; nothing is asked across tenants."""

    name: str
    slos: int
    chance: random.Random
    first: datetime
    minutes: list[int] = field(default_factory=list)
    incidents: list[str] = field(default_factory=list)
    step: int = 0

    def beginnings(self) -> Iterator[tuple[object, str]]:
        self.minutes = [0] * self.slos
        for number in range(self.slos):
            yield records.create(), f"slo-{number}"
        for number in range(3):
            yield runbooks.create(approval_required=number > 0), f"runbook-{number}"
        for _ in range(_RECENT):
            yield self.incident()

    def next(self) -> tuple[object, str]:
        self.step += 1
        if self.chance.random() < _WINDOWS_OF_TEN:
            return self.window()
        makers: Sequence[Callable[[], tuple[object, str]]] = (
            self.alert,
            self.alert,
            self.acknowledged_alert,
            self.incident,
            self.on_an_incident,
            self.on_an_incident,
            self.on_incidents_and_alerts,
            self.on_a_runbook,
            self.health,
            self.fleet,
            self.changed_slo,
        )
        return self.chance.choice(makers)()

    def window(self) -> tuple[object, str]:
        slo = self.chance.randrange(self.slos)
        start = self.first + timedelta(minutes=self.minutes[slo])
        self.minutes[slo] += 1
        return RecordSLIWindow(start=start, width_seconds=60, good=self.chance.randrange(97, 101), total=100), f"slo-{slo}"

    def changed_slo(self) -> tuple[object, str]:
        return records.create(), f"slo-{self.chance.randrange(self.slos)}"

    def fingerprint(self) -> str:
        return f"disk-{self.chance.randrange(20)}"

    def alert(self) -> tuple[object, str]:
        fingerprint = self.fingerprint()
        starts = self.first + timedelta(minutes=self.step // 50)
        status = self.chance.choice(("firing", "firing", "resolved"))
        ends = starts + timedelta(minutes=1) if status == "resolved" else None
        text = {"source": "custom", "fingerprint": fingerprint, "name": "DiskFull", "severity": "high", "status": status}
        alert = IngestAlert(**text, labels={"disk": fingerprint}, starts_at=starts, ends_at=ends)  # type: ignore[arg-type]
        return alert, alert_id_of(self.name, "custom", fingerprint)

    def acknowledged_alert(self) -> tuple[object, str]:
        return AcknowledgeAlert(actor="ann"), alert_id_of(self.name, "custom", self.fingerprint())

    def incident(self) -> tuple[object, str]:
        self.incidents = [*self.incidents[1 - _RECENT :], str(uid("incident", self.name, str(self.step), str(len(self.incidents))))]
        return incidents.create(), self.incidents[-1]

    def on_an_incident(self) -> tuple[object, str]:
        makers: Sequence[Callable[[], object]] = (
            incidents.reclassify,
            incidents.assign,
            incidents.acknowledge,
            incidents.transition,
            incidents.resolve,
            incidents.close,
            lambda: incidents.add_entry(datetime.now(UTC)),
        )
        return self.chance.choice(makers)(), self.chance.choice(self.incidents)

    def on_incidents_and_alerts(self) -> tuple[object, str]:
        one, other = self.chance.sample(self.incidents, 2)
        if self.chance.random() < 0.3:
            return incidents.merge(other), one
        alerts = {alert_id_of(self.name, "custom", self.fingerprint()) for _ in range(3)}
        return incidents.correlate(*sorted(alerts)), one

    def on_a_runbook(self) -> tuple[object, str]:
        runbook = f"runbook-{self.chance.randrange(3)}"
        execution = str(uid("fact", self.name, "runbook", runbook, str(self.chance.randrange(2, 30))))
        makers: Sequence[Callable[[], object]] = (
            runbooks.ask,
            lambda: ApproveRunbookExecution(execution_id=execution, actor="ben"),
            lambda: RecordRunbookExecutionResult(execution_id=execution, outcome="succeeded", actor="robot"),
        )
        return self.chance.choice(makers)(), runbook

    def health(self) -> tuple[object, str]:
        resource = f"prod/payments/app-{self.chance.randrange(10)}"
        timestamp = self.first + timedelta(seconds=self.step)
        status = self.chance.choice(("healthy", "degraded"))
        check = RecordHealthCheck(resource_ref=resource, source="probe", timestamp=timestamp, status=status)
        return check, healthcheck_id(self.name, resource, "probe")

    def fleet(self) -> tuple[object, str]:
        parts = [self.chance.randrange(5) for _ in range(4)]
        names = ("healthy_count", "degraded_count", "progressing_count", "unknown_count")
        counts = {**dict(zip(names, parts, strict=True)), "total_applications": sum(parts), "out_of_sync_count": 0}
        timestamp = self.first + timedelta(seconds=self.step)
        return RecordFleetState(environment_id="prod", cluster_id="eu", timestamp=timestamp, **counts), stream_id(self.name, "prod", "eu")


def tenant_names(tenants: int) -> list[str]:
    return [f"tenant-{number}" for number in range(tenants)]


def publications(seed: int, *, tenants: int, slos: int) -> Iterator[Publication]:
    """Without end; each with an id of its own. `slos` is the number of each tenant."""
    chance = random.Random(seed)  # noqa: S311
    first = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - _DAYS_BACK
    everybody = [Tenant(name=name, slos=slos, chance=chance, first=first) for name in tenant_names(tenants)]
    numbers = count()
    for tenant in everybody:
        for command, aggregate_id in tenant.beginnings():
            yield publication(tenant.name, command, aggregate_id, f"{seed}-{next(numbers)}")
    while True:
        tenant = chance.choice(everybody)
        yield publication(tenant.name, *tenant.next(), f"{seed}-{next(numbers)}")


def publication(tenant: str, command: object, aggregate_id: str, intent_id: str) -> Publication:
    outgoing = to_outgoing(Intent(intent_name(type(command)), tenant, aggregate_id, command, "/faults", intent_id), records.CODEC)
    return Publication(outgoing.topic, outgoing.key, outgoing.value, outgoing.headers)
