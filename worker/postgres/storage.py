"""How an aggregate's state is locked, read and written; each aggregate brings one module with these three functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from psycopg import AsyncConnection

Key = tuple[str, str]
"""Tenant and aggregate id."""

Subject = tuple[str, str, str]
"""Aggregate type, tenant, aggregate id."""


@dataclass(frozen=True, slots=True)
class Change:
    """State as the batch found it (None: absent) and as it leaves it."""

    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Storage:
    """`lock` takes the commands on each aggregate, in order, and gives the states that exist.

    `save` writes what changed, in the order given; `read_all` gives every state, whole.
    """

    lock: Callable[[AsyncConnection[Any], Mapping[Key, Sequence[Any]]], Awaitable[dict[Key, Any]]]
    save: Callable[[AsyncConnection[Any], Mapping[Key, Change]], Awaitable[None]]
    read_all: Callable[[AsyncConnection[Any]], Awaitable[dict[Key, Any]]]
