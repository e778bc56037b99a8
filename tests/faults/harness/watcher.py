"""A read_committed reader that runs throughout: what it saw in which order, whether a version was skipped, how long nothing came."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING

from worker.bus import BusError
from worker.client import read_committed
from worker.evidence import outgoing_topics
from worker.topics import REJECTED_TOPIC

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka import Message

    from tests.faults.harness.acknowledged import Partition
    from worker.settings import Settings


@dataclass(slots=True)
class Trail:
    """What a reader saw of each partition, as a number of records and a digest of them in their order; two readers' can be compared."""

    counts: dict[Partition, int] = field(default_factory=lambda: defaultdict(int))
    digests: dict[Partition, int] = field(default_factory=lambda: defaultdict(int))
    last: dict[Partition, int] = field(default_factory=lambda: defaultdict(lambda: -1))

    def note(self, partition: Partition, offset: int, content: object) -> None:
        self.counts[partition] += 1
        self.digests[partition] = hash((self.digests[partition], offset, content))
        self.last[partition] = offset

    @property
    def count(self) -> int:
        return sum(self.counts.values())

    def differences(self, later: Trail) -> list[str]:
        return [
            f"{topic}[{number}]: the reader that ran throughout saw {self.counts[topic, number]} records, "
            f"one that started at the end {later.counts[topic, number]}, and not the same ones"
            for topic, number in sorted(self.digests.keys() | later.digests.keys())
            if self.digests[topic, number] != later.digests[topic, number]
        ]


@dataclass(slots=True)
class Versions:
    """The last version of every aggregate that a reader has seen, and each one that did not follow on."""

    last: dict[tuple[str, str, str], int] = field(default_factory=lambda: defaultdict(int))
    gaps: list[str] = field(default_factory=list)
    doubles: list[str] = field(default_factory=list)

    def note(self, headers: dict[str, bytes | None]) -> None:
        subject = tuple((headers[f"ce_{name}"] or b"").decode() for name in ("aggregatetype", "tenantid", "aggregateid"))
        version, last = int(headers["ce_aggregateversion"] or 0), self.last[subject]  # type: ignore[index]
        if version <= last:
            self.doubles.append(f"{'/'.join(subject)} version {version} after {last}")
        elif version > last + 1:
            self.gaps.append(f"{'/'.join(subject)} version {version} after {last}")
        self.last[subject] = max(last, version)  # type: ignore[index]


@dataclass(slots=True)
class Watcher:
    """`run` is for a thread of its own."""

    settings: Settings
    topics: Sequence[str] = field(default_factory=outgoing_topics)
    trail: Trail = field(default_factory=Trail)
    versions: Versions = field(default_factory=Versions)
    stopping: Event = field(default_factory=Event)
    last_seen: float = 0.0
    longest_stall_seconds: float = 0.0
    ended_by: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                try:
                    for message in read_committed(self.settings, self.topics, from_beginning=True, stopped=self.stopping.is_set):
                        self._see(message)
                except BusError:
                    if self.trail.count:  # else it is what a reader meets whose Kafka is away when it begins
                        raise
        except BaseException as error:  # noqa: BLE001 - told in the report
            self.ended_by = error

    def begin_to_wait(self) -> None:
        """The first intent was acknowledged: from now on something is due."""
        self.last_seen = self.last_seen or time.monotonic()

    def _see(self, message: Message) -> None:
        now = time.monotonic()
        if self.last_seen:
            self.longest_stall_seconds = max(self.longest_stall_seconds, now - self.last_seen)
        self.last_seen = now
        note(self.trail, self.versions, message)


def note(trail: Trail, versions: Versions, message: Message) -> None:
    topic, headers = str(message.topic()), message.headers() or []
    content = (message.key(), message.value(), tuple(headers))
    trail.note((topic, int(message.partition() or 0)), int(message.offset() or 0), content)
    if topic != REJECTED_TOPIC:
        versions.note(dict(headers))  # type: ignore[arg-type]
