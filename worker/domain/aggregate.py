"""An aggregate as the pipeline and the storage see it: names, types and the plain functions of its module."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, get_args

from pydantic import TypeAdapter

from worker.domain import alert, correlation, fleetstate, healthcheck, incident, merging, runbook, slo
from worker.domain.incident_messages import CorrelateAlertsToIncident, MergeIncidents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from worker.domain.outcome import Context, NoChange
    from worker.domain.rejection import Rejection


Named = tuple[str, str]
"""An aggregate of the intent's tenant by its type and id."""


@dataclass(frozen=True, slots=True)
class Joint:
    """How an intent over several aggregates is decided: `others` are those it names beyond its subject, each None where absent."""

    others: Callable[[Any], Iterable[Named]]
    decide: Callable[[Any, Any, Context, Mapping[Named, Any]], tuple[Any, ...] | NoChange | Rejection]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """State is None where the aggregate was never created; `intents` are by their name on the wire, `facts` by theirs.

    `check_id` raises pydantic's PydanticCustomError; the others are described in the aggregate's own module.
    """

    name: str
    intents: Mapping[str, TypeAdapter[Any]]
    facts: Mapping[str, TypeAdapter[Any]]
    check_id: Callable[[str], str]
    check: Callable[[Any, Context], Rejection | None]
    decide: Callable[[Any, Any, Context], tuple[Any, ...] | NoChange | Rejection]
    evolve: Callable[[Any, Any, Context], Any]
    joint: Mapping[type, Joint]


def intent_name(command: type) -> str:
    return f"{command.__name__}Requested"


def _aggregate(name: str, module: Any, joint: Mapping[type, Joint] = MappingProxyType({})) -> Aggregate:  # noqa: ANN401 - a module
    """The aggregate that a module of this package describes by its names Command, Fact, check_id, check, decide and evolve."""
    return Aggregate(
        name=name,
        intents={intent_name(command): TypeAdapter(command) for command in _members(module.Command)},
        facts={fact.__name__: TypeAdapter(fact) for fact in _members(module.Fact)},
        check_id=module.check_id,
        check=module.check,
        decide=module.decide,
        evolve=module.evolve,
        joint=joint,
    )


def _members(union: Any) -> tuple[type, ...]:  # noqa: ANN401 - a union of classes, or a class
    return get_args(union) or (union,)


ALERT: Final = _aggregate("alert", alert)
FLEETSTATE: Final = _aggregate("fleetstate", fleetstate)
HEALTHCHECK: Final = _aggregate("healthcheck", healthcheck)
INCIDENT: Final = _aggregate(
    "incident",
    incident,
    joint={
        MergeIncidents: Joint(merging.others, merging.decide),
        CorrelateAlertsToIncident: Joint(correlation.others, correlation.decide),
    },
)
RUNBOOK: Final = _aggregate("runbook", runbook)
SLO: Final = _aggregate("slo", slo)

AGGREGATES: Final[Mapping[str, Aggregate]] = {
    aggregate.name: aggregate for aggregate in (INCIDENT, ALERT, FLEETSTATE, HEALTHCHECK, RUNBOOK, SLO)
}
