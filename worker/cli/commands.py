"""The commands by name, each imported when it is asked for: all of them take longer to import than most take to run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import typer
from typer.core import TyperGroup
from typer.main import get_group

if TYPE_CHECKING:
    from collections.abc import Iterator

    Command = Any  # of click, of which typer has a copy of its own


class Place(NamedTuple):
    """Where in worker.cli a function is, or the typer.Typer of a command that has commands of its own."""

    panel: str
    module: str
    name: str


_SERVICES: Final = "Services"
_SOURCES: Final = "Sources"
_SET_UP: Final = "Set-up"
_TRY_IT: Final = "Try it"
_BUS: Final = "The bus, for people"

PLACES: Final[Mapping[str, Place]] = {
    "worker": Place(_SERVICES, "worker", "worker"),
    "relay": Place(_SERVICES, "relay", "app"),
    "sweep": Place(_SERVICES, "sweep", "sweep"),
    "bridge": Place(_SOURCES, "bridge", "app"),
    "poll": Place(_SOURCES, "poll", "app"),
    "import": Place(_SOURCES, "imports", "app"),
    "migrate": Place(_SET_UP, "stack", "migrate"),
    "topics": Place(_SET_UP, "stack", "topics"),
    "maintain": Place(_SET_UP, "maintain", "maintain"),
    "config": Place(_SET_UP, "config", "config"),
    "doctor": Place(_SET_UP, "doctor", "doctor"),
    "keys": Place(_SET_UP, "keys", "app"),
    "asyncapi": Place(_SET_UP, "asyncapi", "asyncapi"),
    "schemas": Place(_SET_UP, "schemas", "app"),
    "demo": Place(_TRY_IT, "demo", "demo"),
    "dev": Place(_TRY_IT, "stack", "dev"),
    "publish": Place(_BUS, "bus", "publish"),
    "facts": Place(_BUS, "bus", "facts"),
    "rejected": Place(_BUS, "rejected", "app"),
    "query": Place(_BUS, "query", "app"),
}


class Commands(TyperGroup):
    """The group that `sre-domain` is."""

    def __init__(self, **given: Any) -> None:  # noqa: ANN401 - handed on
        super().__init__(**given)
        self.commands = cast("dict[str, Command]", _OnDemand())


class _OnDemand(Mapping[str, "Command"]):
    def __getitem__(self, name: str) -> Command:
        return _imported(name)

    def __iter__(self) -> Iterator[str]:
        return iter(PLACES)

    def __len__(self) -> int:
        return len(PLACES)


@cache
def _imported(name: str) -> Command:
    """Raises KeyError."""
    place = PLACES[name]
    found = getattr(import_module(f"worker.cli.{place.module}"), place.name)
    alone = typer.Typer()
    if isinstance(found, typer.Typer):
        alone.add_typer(found, name=name, rich_help_panel=place.panel)
    else:
        alone.command(name, rich_help_panel=place.panel)(found)
    return get_group(alone).commands[name]
