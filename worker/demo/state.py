"""What the system of record says at the end of the demonstration, by its query services; health checks by their last facts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from worker.demo.asking import TENANT
from worker.demo.operations import INCIDENT
from worker.domain.healthcheck import HealthCheckRecorded
from worker.postgres.queries import (
    SreAlertQueryService,
    SreHealthQueryService,
    SreIncidentQueryService,
    SreRunbookQueryService,
    SreSLOQueryService,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import psycopg

    from worker.messages import ReceivedFact
    from worker.postgres.queries import AlertView, FleetStateView, IncidentView, RunbookView, SLOView


@dataclass(frozen=True, slots=True)
class State:
    """`checks` has the status of each resource: no query gives a health check."""

    slos: Sequence[SLOView] = ()
    incident: IncidentView | None = None
    alerts: Sequence[AlertView] = ()
    runbooks: Sequence[RunbookView] = ()
    fleets: Sequence[FleetStateView] = ()
    checks: Mapping[str, str] = field(default_factory=dict)


def read_state(connection: psycopg.Connection[Any], facts: Sequence[ReceivedFact]) -> State:
    alerts = dict.fromkeys(fact.aggregate_id for fact in facts if fact.aggregate == "alert")
    found = (SreAlertQueryService(connection).get_alert(TENANT, alert_id) for alert_id in alerts)
    return State(
        slos=SreSLOQueryService(connection).list_slos(TENANT).items,
        incident=SreIncidentQueryService(connection).get_incident(TENANT, INCIDENT),
        alerts=[alert for alert in found if alert is not None],
        runbooks=SreRunbookQueryService(connection).list_runbooks(TENANT).items,
        fleets=SreHealthQueryService(connection).get_current_fleet_state(TENANT, "production").items,
        checks={fact.fact.resource_ref: fact.fact.status for fact in facts if isinstance(fact.fact, HealthCheckRecorded)},
    )
