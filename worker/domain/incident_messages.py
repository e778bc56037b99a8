"""What may be asked of an incident, and the facts that say what became of it: its messages, field by field."""

from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import AfterValidator, Field, Strict, WrapValidator

from worker.domain.alerts_correlated import AlertsCorrelatedToIncident
from worker.domain.fields import (
    KNOWN_FIELDS_ONLY,
    AtMost,
    DistinctAtMost,
    Int64,
    Line200,
    Listed,
    OneOf,
    Severity,
    String,
    Text,
    Text2000,
    Text10000,
    Timestamp,
    Uuid,
    blank,
    wrong_shape,
)
from worker.domain.incident_status import STATUSES

MAX_RESOURCES: Final = 100


def _not_blank(value: str) -> str:
    if blank(value):
        raise wrong_shape("must not be blank")
    return value


Assignee = Annotated[Listed, AfterValidator(Text(200))]  # a blank one has a code of its own
EntryText = Annotated[Text10000, AfterValidator(_not_blank), Field(validate_default=True)]
Source = Annotated[str, Strict(), AfterValidator(OneOf(("alert", "manual", "agent")))]
Status = Annotated[str, Strict(), AfterValidator(OneOf(STATUSES))]
Resources = Annotated[tuple[String, ...], WrapValidator(DistinctAtMost(MAX_RESOURCES))]  # what is no ref has a code of its own
MergedIds = Annotated[tuple[Uuid, ...], WrapValidator(AtMost(20))]
AlertIds = Annotated[tuple[Uuid, ...], WrapValidator(DistinctAtMost(100))]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateIncident:
    __pydantic_config__ = KNOWN_FIELDS_ONLY

    title: Line200
    description: Text10000 = ""
    severity: Severity
    source: Source
    affected_resources: Resources = ()
    assigned_to: Line200 | None = None
    actor: Line200


@dataclass(frozen=True, slots=True, kw_only=True)
class ReclassifyIncidentSeverity:
    __pydantic_config__ = KNOWN_FIELDS_ONLY

    severity: Severity
    reason: Text2000 = ""
    actor: Line200
    expected_version: Int64 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignIncident:
    __pydantic_config__ = KNOWN_FIELDS_ONLY

    assigned_to: Assignee
    actor: Line200
    expected_version: Int64 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddIncidentTimelineEntry:
    __pydantic_config__ = KNOWN_FIELDS_ONLY

    kind: Listed
    text: EntryText = ""
    occurred_at: Timestamp
    actor: Line200
    expected_version: Int64 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AcknowledgeIncident:
    __pydantic_config__ = KNOWN_FIELDS_ONLY

    note: Text2000 = ""
    actor: Line200
    expected_version: Int64 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitionIncidentStatus:
    __pydantic_config__ = KNOWN_FIELDS_ONLY

    status: Status
    reason: Text2000 = ""
    actor: Line200
    expected_version: Int64 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveIncident:
    __pydantic_config__ = KNOWN_FIELDS_ONLY

    resolution: Text10000 = ""
    actor: Line200
    expected_version: Int64 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseIncident:
    __pydantic_config__ = KNOWN_FIELDS_ONLY

    reason: Text2000 = ""
    actor: Line200
    expected_version: Int64 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeIncidents:
    """The subject is the incident that goes on; those listed are closed."""

    __pydantic_config__ = KNOWN_FIELDS_ONLY

    merged_incident_ids: MergedIds = ()
    reason: Text2000 = ""
    actor: Line200
    expected_version: Int64 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrelateAlertsToIncident:
    __pydantic_config__ = KNOWN_FIELDS_ONLY

    alert_ids: AlertIds = ()
    actor: Line200
    expected_version: Int64 | None = None


LiveCommand = ReclassifyIncidentSeverity | AssignIncident | AcknowledgeIncident | TransitionIncidentStatus | ResolveIncident | CloseIncident
"""What a closed incident refuses."""

LoneCommand = CreateIncident | AddIncidentTimelineEntry | LiveCommand
"""What is decided on the incident alone."""

Command = LoneCommand | MergeIncidents | CorrelateAlertsToIncident


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentCreated:
    title: Line200
    description: Text10000 = ""
    severity: Severity
    source: Source
    affected_resources: Resources = ()
    assigned_to: Line200 | None = None
    actor: Line200


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentSeverityChanged:
    previous_severity: Severity
    severity: Severity
    reason: Text2000 = ""
    actor: Line200


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentAssigned:
    previous_assigned_to: Line200 | None = None
    assigned_to: Line200
    actor: Line200


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentTimelineEntryAdded:
    kind: Listed
    text: Text10000 = ""
    occurred_at: Timestamp
    actor: Line200


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentAcknowledged:
    note: Text2000 = ""
    actor: Line200


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentStatusChanged:
    previous_status: Status
    status: Status
    reason: Text2000 = ""
    actor: Line200


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentResolved:
    previous_status: Status
    resolution: Text10000 = ""
    actor: Line200


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentClosed:
    previous_status: Status
    merged_into: Uuid | None = None
    reason: Text2000 = ""
    actor: Line200


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentsMerged:
    """`affected_resources` is the union: the survivor's first, then those of the merged ones as they are listed."""

    merged_incident_ids: MergedIds = ()
    affected_resources: Resources = ()
    reason: Text2000 = ""
    actor: Line200


Fact = (
    IncidentCreated
    | IncidentSeverityChanged
    | IncidentAssigned
    | IncidentTimelineEntryAdded
    | IncidentAcknowledged
    | IncidentStatusChanged
    | IncidentResolved
    | IncidentClosed
    | IncidentsMerged
    | AlertsCorrelatedToIncident
)
