"""An aggregate as the pipeline and the storage see it: names, types and the plain functions of its module."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, get_args

from pydantic import TypeAdapter

from worker.domain import slo

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
    joint: Mapping[type, Joint] = field(default_factory=dict)


def intent_name(command: type) -> str:
    return f"{command.__name__}Requested"


SLO: Final = Aggregate(
    name="slo",
    intents={intent_name(command): TypeAdapter(command) for command in get_args(slo.Command)},
    facts={fact.__name__: TypeAdapter(fact) for fact in get_args(slo.Fact)},
    check_id=slo.check_id,
    check=slo.check,
    decide=slo.decide,
    evolve=slo.evolve,
)

AGGREGATES: Final[Mapping[str, Aggregate]] = {aggregate.name: aggregate for aggregate in (SLO,)}
