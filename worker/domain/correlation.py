"""CorrelateAlertsToIncident: the incident decides whether alerts may join it, and each that joins takes the fact as well."""

from collections.abc import Iterator, Mapping

from worker.domain.alert import Alert
from worker.domain.alerts_correlated import AlertsCorrelatedToIncident, CorrelatedAlert
from worker.domain.incident import Incident, find
from worker.domain.incident_messages import CorrelateAlertsToIncident
from worker.domain.incident_status import UNRESOLVED
from worker.domain.outcome import NO_CHANGE, Context, FactOn, NoChange
from worker.domain.rejection import Rejection, RejectionCode, refuse_fields

Outcome = tuple[AlertsCorrelatedToIncident | FactOn, ...] | NoChange | Rejection


def others(command: CorrelateAlertsToIncident) -> Iterator[tuple[str, str]]:
    return (("alert", alert_id) for alert_id in command.alert_ids)


def decide(
    incident: Incident | None, command: CorrelateAlertsToIncident, context: Context, states: Mapping[tuple[str, str], Alert | None]
) -> Outcome:
    """The incident's fact, then each alert's by ascending id: of all alerts that join, or of none."""
    found = find(incident, command.expected_version, context)
    if isinstance(found, Rejection):
        return found
    if found.status not in UNRESOLVED:
        return Rejection(RejectionCode.INCIDENT_NOT_OPEN, f"incident {context.aggregate_id} is {found.status}: no alert can join it")
    alerts = _joining(context.aggregate_id, command, states)
    if isinstance(alerts, Rejection):
        return alerts
    if not alerts:
        return NO_CHANGE

    def correlated(*joined: CorrelatedAlert) -> AlertsCorrelatedToIncident:
        return AlertsCorrelatedToIncident(incident_id=context.aggregate_id, alerts=joined, actor=command.actor)

    return (correlated(*alerts), *(FactOn("alert", one.alert_id, correlated(one)) for one in alerts))


def _joining(
    incident_id: str, command: CorrelateAlertsToIncident, states: Mapping[tuple[str, str], Alert | None]
) -> tuple[CorrelatedAlert, ...] | Rejection:
    """The alerts that are on no incident yet, by ascending id. Those that are on this one already are passed over."""
    joining, absent, elsewhere = [], {}, {}
    for at, alert_id in enumerate(command.alert_ids):
        alert = states["alert", alert_id]
        if alert is None:
            absent[f"alert_ids[{at}]"] = "names no alert"
        elif alert.incident_id is None:
            joining.append(CorrelatedAlert(alert_id=alert_id, episode=alert.episode))
        elif alert.incident_id != incident_id:
            elsewhere[f"alert_ids[{at}]"] = f"is on incident {alert.incident_id} in its episode {alert.episode}"
    if absent:
        return refuse_fields(RejectionCode.ALERT_NOT_FOUND, absent)
    if elsewhere:
        return refuse_fields(RejectionCode.ALERT_ALREADY_CORRELATED, elsewhere)
    return tuple(sorted(joining, key=lambda one: one.alert_id))
