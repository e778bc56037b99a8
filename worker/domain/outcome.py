"""What a decision is made with, and its answers other than a rejection: no change, or a plain non-empty tuple of facts."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

CLOCK_TOLERANCE = timedelta(minutes=5)  # how far a time in an intent may lie after the moment it is held against


@dataclass(frozen=True, slots=True)
class Context:
    """All that a decision may know beyond state and command; `time` is the intent's ce_time, UTC."""

    tenant_id: str
    aggregate_id: str
    time: datetime


@dataclass(frozen=True, slots=True)
class NoChange:
    """The state already is as asked; nothing is emitted."""


NO_CHANGE = NoChange()


@dataclass(frozen=True, slots=True)
class FactOn:
    """A fact on another aggregate than the intent's subject; a bare one is on the subject."""

    aggregate: str
    aggregate_id: str
    fact: Any
