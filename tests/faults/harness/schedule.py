"""From a seed to a schedule: which fault, when, on which victim, for how long. Pure, so that a seed is all it takes to see a run again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

SESSION_TIMEOUT_SECONDS: Final = 6  # the shortest that Kafka's brokers allow
TRANSACTION_TIMEOUT_SECONDS: Final = 5


class Kind(StrEnum):
    KILL_WORKER = "kill_worker"
    KILL_RELAY = "kill_relay"
    KILL_ACTIVE_RELAY = "kill_active_relay"
    PAUSE_WORKER = "pause_worker"
    PAUSE_RELAY = "pause_relay"
    PAUSE_ACTIVE_RELAY = "pause_active_relay"
    TERM_WORKER = "term_worker"
    TERM_RELAY = "term_relay"
    REBALANCE_STORM = "rebalance_storm"
    KAFKA_LATENCY = "kafka_latency"
    KAFKA_BLACKHOLE = "kafka_blackhole"
    KAFKA_RESET = "kafka_reset"
    KAFKA_CUT = "kafka_cut"
    KAFKA_RESTART = "kafka_restart"
    KAFKA_KILL = "kafka_kill"
    POSTGRES_LATENCY = "postgres_latency"
    POSTGRES_BLACKHOLE = "postgres_blackhole"
    POSTGRES_RESET = "postgres_reset"
    POSTGRES_CUT = "postgres_cut"
    POSTGRES_RESTART = "postgres_restart"
    POSTGRES_KILL = "postgres_kill"
    DISK_FULL = "disk_full"
    DUPLICATE_PUBLISHING = "duplicate_publishing"
    REORDERED_PUBLISHING = "reordered_publishing"
    POISON = "poison"
    CLOCK_SKEW = "clock_skew"


class Span(NamedTuple):
    """From the least to the most."""

    least: float
    most: float


NOTHING: Final = Span(0, 0)
_LONGER_THAN_ANY_TIMEOUT: Final = Span(SESSION_TIMEOUT_SECONDS + 2, SESSION_TIMEOUT_SECONDS + 5)
_DOWN: Final = Span(0, 2)
_RECORDS: Final = Span(100, 400)

_SECONDS: Final[Mapping[Kind, Span]] = {
    Kind.KILL_WORKER: _DOWN,
    Kind.KILL_RELAY: _DOWN,
    Kind.KILL_ACTIVE_RELAY: _DOWN,
    Kind.PAUSE_WORKER: _LONGER_THAN_ANY_TIMEOUT,
    Kind.PAUSE_RELAY: _LONGER_THAN_ANY_TIMEOUT,
    Kind.PAUSE_ACTIVE_RELAY: _LONGER_THAN_ANY_TIMEOUT,
    Kind.REBALANCE_STORM: Span(4, 7),
    Kind.KAFKA_LATENCY: Span(3, 6),
    Kind.KAFKA_BLACKHOLE: Span(3, 9),
    Kind.KAFKA_RESET: Span(0.2, 4),
    Kind.KAFKA_CUT: Span(2, 5),
    Kind.KAFKA_KILL: _DOWN,
    Kind.POSTGRES_LATENCY: Span(3, 6),
    Kind.POSTGRES_BLACKHOLE: Span(3, 9),
    Kind.POSTGRES_RESET: Span(0.2, 4),
    Kind.POSTGRES_CUT: Span(2, 5),
    Kind.POSTGRES_KILL: _DOWN,
    Kind.DISK_FULL: Span(3, 6),
}
_AMOUNT: Final[Mapping[Kind, Span]] = {
    Kind.KAFKA_LATENCY: Span(0.02, 0.4),
    Kind.POSTGRES_LATENCY: Span(0.005, 0.1),
    Kind.KAFKA_CUT: Span(200, 100_000),
    Kind.POSTGRES_CUT: Span(200, 100_000),
    Kind.DUPLICATE_PUBLISHING: _RECORDS,
    Kind.REORDERED_PUBLISHING: _RECORDS,
    Kind.POISON: Span(20, 80),
    Kind.CLOCK_SKEW: Span(20, 80),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`at` is seconds after the start of the load, `seconds` how long it lasts or how long a killed one stays away.

    `victim` is the number of the worker or relay. `amount` is seconds of latency, bytes before a cut, or records.
    """

    at: float
    kind: Kind
    victim: int
    seconds: float
    amount: float


def schedule(seed: int, *, seconds: float, every_seconds: float, kinds: Collection[Kind]) -> tuple[Fault, ...]:
    """One fault in each stretch of `every_seconds`, at a moment of its own; no kind again before each of `kinds` was due."""
    chance = random.Random(seed)  # noqa: S311 - the same schedule in every run is the point
    faults, bag = [], list[Kind]()
    for number in range(round(seconds / every_seconds)):
        if not bag:
            bag = sorted(kinds)
            chance.shuffle(bag)
        kind = bag.pop()
        faults.append(
            Fault(
                at=round(every_seconds * (number + chance.random()), 3),
                kind=kind,
                victim=chance.randrange(2),
                seconds=round(chance.uniform(*_SECONDS.get(kind, NOTHING)), 3),
                amount=round(chance.uniform(*_AMOUNT.get(kind, NOTHING)), 3),
            )
        )
    return tuple(faults)
