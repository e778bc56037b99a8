"""The statuses of an incident and the steps between them that TransitionIncidentStatus takes."""

from collections.abc import Mapping
from typing import Final

OPEN: Final = "open"
ACKNOWLEDGED: Final = "acknowledged"
INVESTIGATING: Final = "investigating"
MITIGATING: Final = "mitigating"
RESOLVED: Final = "resolved"
CLOSED: Final = "closed"

UNRESOLVED: Final = (OPEN, ACKNOWLEDGED, INVESTIGATING, MITIGATING)
STATUSES: Final = (*UNRESOLVED, RESOLVED, CLOSED)

# Each of these is reached by an intent of its own.
DEDICATED: Final[Mapping[str, str]] = {ACKNOWLEDGED: "AcknowledgeIncident", RESOLVED: "ResolveIncident", CLOSED: "CloseIncident"}

TRANSITIONS: Final[Mapping[str, tuple[str, ...]]] = {
    OPEN: (INVESTIGATING,),
    ACKNOWLEDGED: (INVESTIGATING, MITIGATING),
    INVESTIGATING: (MITIGATING,),
    MITIGATING: (INVESTIGATING,),
    RESOLVED: (INVESTIGATING,),  # reopening
    CLOSED: (),
}
