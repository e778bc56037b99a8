"""Argo CD's six health states as a check's status, and as one of the four counts that a fleet state splits its total into."""

from collections.abc import Mapping
from typing import Final, NamedTuple

HEALTHY: Final = "healthy"
DEGRADED: Final = "degraded"
UNHEALTHY: Final = "unhealthy"
UNKNOWN: Final = "unknown"

UNASSESSED: Final = "Unknown"  # Argo CD's word for an Application whose health it could not tell


class Reading(NamedTuple):
    """What one of Argo CD's words comes to: the status of a check, the field of a fleet state."""

    status: str
    counted_as: str


READINGS: Final[Mapping[str, Reading]] = {
    "Healthy": Reading(HEALTHY, "healthy_count"),
    "Progressing": Reading(DEGRADED, "progressing_count"),
    "Suspended": Reading(DEGRADED, "progressing_count"),  # it waits, it has not failed
    "Degraded": Reading(UNHEALTHY, "degraded_count"),
    "Missing": Reading(UNHEALTHY, "degraded_count"),
    UNASSESSED: Reading(UNKNOWN, "unknown_count"),
}
