"""MergeIncidents: one incident goes on with the resources of others, which are closed and point to it."""

from collections.abc import Iterator, Mapping

from worker.domain.incident import Incident, find
from worker.domain.incident_messages import MAX_RESOURCES, IncidentClosed, IncidentsMerged, MergeIncidents
from worker.domain.incident_status import CLOSED, UNRESOLVED
from worker.domain.outcome import Context, FactOn
from worker.domain.rejection import Rejection, RejectionCode, refuse_fields

Outcome = tuple[IncidentsMerged | FactOn, ...] | Rejection


def others(command: MergeIncidents) -> Iterator[tuple[str, str]]:
    return (("incident", incident_id) for incident_id in command.merged_incident_ids)


def decide(
    incident: Incident | None, command: MergeIncidents, context: Context, states: Mapping[tuple[str, str], Incident | None]
) -> Outcome:
    """The survivor's fact, then the closing of each source by ascending id. When their statuses changed is not asked."""
    survivor = find(incident, command.expected_version, context)
    if isinstance(survivor, Rejection):
        return survivor
    if survivor.status not in UNRESOLVED:
        return Rejection(RejectionCode.MERGE_TARGET_INVALID, f"incident {context.aggregate_id} is {survivor.status}: none goes on in it")
    sources = _sources(command, states)
    if isinstance(sources, Rejection):
        return sources
    resources = tuple(dict.fromkeys(ref for one in (survivor, *sources.values()) for ref in one.affected_resources))
    if len(resources) > MAX_RESOURCES:
        return Rejection(RejectionCode.LIMIT_EXCEEDED, f"together they affect {len(resources)} resources, more than {MAX_RESOURCES}")
    merged = IncidentsMerged(
        merged_incident_ids=command.merged_incident_ids, affected_resources=resources, reason=command.reason, actor=command.actor
    )
    return (merged, *(FactOn("incident", source_id, _closed(sources[source_id], command, context)) for source_id in sorted(sources)))


def _sources(command: MergeIncidents, states: Mapping[tuple[str, str], Incident | None]) -> dict[str, Incident] | Rejection:
    """The incidents to be closed, as they are listed."""
    sources, absent, closed = {}, {}, {}
    for at, incident_id in enumerate(command.merged_incident_ids):
        source = states["incident", incident_id]
        if source is None:
            absent[f"merged_incident_ids[{at}]"] = "names no incident"
        elif source.status == CLOSED:
            closed[f"merged_incident_ids[{at}]"] = "names a closed incident"
        else:
            sources[incident_id] = source
    if absent:
        return refuse_fields(RejectionCode.INCIDENT_NOT_FOUND, absent)
    return refuse_fields(RejectionCode.INCIDENT_CLOSED, closed) if closed else sources


def _closed(source: Incident, command: MergeIncidents, context: Context) -> IncidentClosed:
    return IncidentClosed(previous_status=source.status, merged_into=context.aggregate_id, reason=command.reason, actor=command.actor)
