"""The one fact that two aggregates take: an incident, for all alerts that join it, and each of those alerts for itself."""

from dataclasses import dataclass

from worker.domain.fields import Int32, Line200, Uuid


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrelatedAlert:
    """An alert in the episode in which it joined."""

    alert_id: Uuid
    episode: Int32


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertsCorrelatedToIncident:
    """`alerts` are the newly correlated ones by ascending id; on an alert, itself alone."""

    incident_id: Uuid
    alerts: tuple[CorrelatedAlert, ...] = ()
    actor: Line200
