"""What the client knows of its own: which records the broker acknowledged, and where. Sixteen bytes a record."""

from __future__ import annotations

from array import array
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tests.faults.harness.intents import Publication
    from worker.envelope import Record

Partition = tuple[str, int]


CopiedIntent = tuple[str, str]
"""Tenant and intent id."""


class Copy(NamedTuple):
    """A record that was acknowledged although its intent had been sent before."""

    topic: str
    partition: int
    offset: int
    tenant_id: str
    intent_id: str


class Unplaced(NamedTuple):
    """`what` tells which record it is; `intent` is that of a copy."""

    what: str
    intent: CopiedIntent | None


@dataclass(slots=True)
class Lane:
    """Offsets and fingerprints of one partition's acknowledged records, in the order of acknowledgement."""

    offsets: array[int] = field(default_factory=lambda: array("q"))
    fingerprints: array[int] = field(default_factory=lambda: array("q"))


@dataclass(slots=True)
class Acknowledged:
    """`indeterminate` were sent and never acknowledged: they may be in the topic or not.

    `unplaced` were acknowledged without an offset, as a broker does that takes them for repeats. Comparison finds their places; what
    has none was never in the topic, and nobody was told that it was.
    """

    lanes: dict[Partition, Lane] = field(default_factory=lambda: defaultdict(Lane))
    copies: list[Copy] = field(default_factory=list)
    unplaced: dict[int, Unplaced] = field(default_factory=dict)
    indeterminate: int = 0

    def note(self, topic: str, partition: int, offset: int, fingerprint: int) -> None:
        lane = self.lanes[topic, partition]
        lane.offsets.append(offset)
        lane.fingerprints.append(fingerprint)

    @property
    def count(self) -> int:
        return sum(len(lane.offsets) for lane in self.lanes.values())


class Comparison:
    """Holds what lies in the topics, read in the order of each partition, against what was acknowledged."""

    def __init__(self, acknowledged: Acknowledged) -> None:
        self.breaches: list[str] = []
        self.without_place: list[str] = []
        self._acknowledged = acknowledged
        self._unplaced = dict(acknowledged.unplaced)
        self._lanes = {partition: _in_order(lane) for partition, lane in acknowledged.lanes.items()}
        self._next = dict.fromkeys(self._lanes, 0)

    def see(self, record: Record) -> None:
        partition = record[:2]
        if (lane := self._lanes.get(partition)) is not None:
            self._skip_to(partition, record.offset)
            due = self._next[partition]
            if due < len(lane.offsets) and lane.offsets[due] == record.offset:
                self._next[partition] = due + 1
                if lane.fingerprints[due] != fingerprint(record):
                    self.breaches.append(f"client: {record.topic}[{record.partition}]@{record.offset} is not what was acknowledged there")
                return
        if self._unplaced and (mark := fingerprint(record)) in self._unplaced:
            self._place(record, mark)

    def end(self) -> None:
        for partition in self._lanes:
            self._skip_to(partition, None)
        self.without_place = [what for what, _ in self._unplaced.values()]

    def _place(self, record: Record, mark: int) -> None:
        _, intent = self._unplaced.pop(mark)
        self._acknowledged.note(record.topic, record.partition, record.offset, mark)
        if intent is not None:
            self._acknowledged.copies.append(Copy(*record[:3], *intent))

    def _skip_to(self, partition: Partition, offset: int | None) -> None:
        """Whatever was acknowledged before this offset and did not come is missing; None is past them all."""
        offsets, due = self._lanes[partition].offsets, self._next[partition]
        while due < len(offsets) and (offset is None or offsets[due] < offset):
            self.breaches.append(f"client: acknowledged, and not in its topic: {partition[0]}[{partition[1]}]@{offsets[due]}")
            due += 1
        self._next[partition] = due


def _in_order(lane: Lane) -> Lane:
    order = sorted(range(len(lane.offsets)), key=lane.offsets.__getitem__)
    return Lane(array("q", map(lane.offsets.__getitem__, order)), array("q", map(lane.fingerprints.__getitem__, order)))


def fingerprint(record: Record | Publication) -> int:
    """Of all that a producer says; comparable within one process, which is where both ends of it are."""
    return hash((record.key, record.value, tuple(record.headers)))
