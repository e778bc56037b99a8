"""What holds for each kind of aggregate, read off its facts alone, in the order of their versions."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from worker.domain.ids import uid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from worker.audit.observed import SeenFact, Subject

_STEPS: Final = {
    ("open", "acknowledged"),
    ("open", "investigating"),
    ("acknowledged", "investigating"),
    ("acknowledged", "mitigating"),
    ("investigating", "mitigating"),
    ("mitigating", "investigating"),
    ("resolved", "investigating"),
    ("resolved", "closed"),
    *((status, "resolved") for status in ("open", "acknowledged", "investigating", "mitigating")),
}


def breaches(seen: Iterable[SeenFact]) -> Iterator[str]:
    by_subject: dict[Subject, list[SeenFact]] = defaultdict(list)
    for fact in seen:
        by_subject[fact.subject].append(fact)
    for subject, facts in by_subject.items():
        yield from _LAWS[subject[0]](facts)


def _incident(facts: Sequence[SeenFact]) -> Iterator[str]:
    status = "open"
    for seen in facts:
        if status == "closed" and seen.name != "IncidentTimelineEntryAdded":
            yield f"9: {seen.place} changes a closed incident"
        after = _status_after(seen)
        if after is None:
            continue
        merged = seen.name == "IncidentClosed" and seen.fact.merged_into is not None
        if not merged and (status, after) not in _STEPS:
            yield f"9: {seen.place} steps from {status} to {after}"
        if getattr(seen.fact, "previous_status", status) != status:
            yield f"9: {seen.place} speaks of {seen.fact.previous_status}, and it was {status}"
        status = after


def _status_after(seen: SeenFact) -> str | None:
    fixed = {"IncidentAcknowledged": "acknowledged", "IncidentResolved": "resolved", "IncidentClosed": "closed"}
    return seen.fact.status if seen.name == "IncidentStatusChanged" else fixed.get(seen.name)


def _alert(facts: Sequence[SeenFact]) -> Iterator[str]:
    episode = 0
    incidents: dict[int, str] = {}
    for seen in facts:
        if seen.name == "AlertIngested":
            if str(uid("alert", seen.subject[1], seen.fact.source, seen.fact.fingerprint)) != seen.subject[2]:
                yield f"10: {seen.place} is on an alert of another source or fingerprint"
            if seen.fact.episode not in (episode, episode + 1):
                yield f"10: {seen.place} is episode {seen.fact.episode} after {episode}"
            episode = seen.fact.episode
        elif seen.name == "AlertsCorrelatedToIncident" and incidents.setdefault(episode, seen.fact.incident_id) != seen.fact.incident_id:
            yield f"10: {seen.place} puts episode {episode} on a second incident"


def _runbook(facts: Sequence[SeenFact]) -> Iterator[str]:
    requested_by: dict[str, str] = {}
    passed: set[tuple[str, str]] = set()
    for seen in facts:
        if seen.name == "RunbookExecutionRequested":
            requested_by[str(uid("fact", seen.subject[1], "runbook", seen.subject[2], str(seen.version)))] = seen.fact.actor
            continue
        execution = getattr(seen.fact, "execution_id", None)
        if execution is None:
            continue
        if execution not in requested_by:
            yield f"11: {seen.place} is about an execution that nobody asked for"
        if (execution, seen.name) in passed or (execution, "RunbookExecutionCompleted") in passed:
            yield f"11: {seen.place} is a second {seen.name}, or comes after the end"
        if seen.name in ("RunbookExecutionApproved", "RunbookExecutionRejected") and requested_by.get(execution) == seen.fact.actor:
            yield f"11: {seen.place} was decided by its requester"
        passed.add((execution, seen.name))


def _slo(facts: Sequence[SeenFact]) -> Iterator[str]:
    exhausted = False
    for seen in facts:
        if seen.name in ("SLOBudgetExhausted", "SLOBudgetRecovered"):
            if exhausted == (seen.name == "SLOBudgetExhausted"):
                yield f"12: {seen.place} crosses the same way twice"
            exhausted = seen.name == "SLOBudgetExhausted"


def _rising(facts: Sequence[SeenFact]) -> Iterator[str]:
    last: datetime | None = None
    for seen in facts:
        if last is not None and seen.fact.timestamp <= last:
            yield f"13: {seen.place} is not later than the one before"
        last = seen.fact.timestamp


def _fleetstate(facts: Sequence[SeenFact]) -> Iterator[str]:
    yield from _rising(facts)
    for seen in facts:
        state = seen.fact
        if state.healthy_count + state.degraded_count + state.progressing_count + state.unknown_count != state.total_applications:
            yield f"13: {seen.place} does not add up"


_LAWS: Final[Mapping[str, Callable[[Sequence[SeenFact]], Iterator[str]]]] = {
    "incident": _incident,
    "alert": _alert,
    "runbook": _runbook,
    "slo": _slo,
    "healthcheck": _rising,
    "fleetstate": _fleetstate,
}
