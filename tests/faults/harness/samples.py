"""What is looked at again and again while faults happen: committed offsets against outcomes, relays on the slot, memory."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any, Final

import psutil
import psycopg
from confluent_kafka import Consumer, KafkaException, TopicPartition

from worker.domain.aggregate import AGGREGATES
from worker.kafka_config import librdkafka_config
from worker.topic_admin import partition_counts
from worker.topics import intents_topic

if TYPE_CHECKING:
    from tests.faults.harness.acknowledged import Partition
    from tests.faults.harness.cluster import Cluster
    from worker.settings import Settings

_EVERY_SECONDS: Final = 1.0
_TIMEOUT_SECONDS: Final = 2.0
_SETTLED_SECONDS: Final = 5.0  # a process younger than this has not loaded everything
_POSITIONS: Final = "SELECT topic, partition, next_offset FROM intake_position"
_STREAMING: Final = "SELECT count(*) FROM pg_stat_replication WHERE state IN ('streaming', 'catchup')"


class Offsets:
    """The consumer group's committed offsets and the ends of the intent topics, seen by one who never joins the group."""

    def __init__(self, settings: Settings) -> None:
        self._consumer = Consumer({**librdkafka_config(settings), "group.id": settings.consumer_group, "enable.auto.commit": False})
        names = [intents_topic(name) for name in AGGREGATES]
        partitions = partition_counts(settings, names)
        self._places = [(name, number) for name in names for number in range(partitions[name])]

    def committed(self) -> dict[Partition, int]:
        """0 where none is. Raises KafkaException."""
        asked = [TopicPartition(*place) for place in self._places]
        found = self._consumer.committed(asked, timeout=_TIMEOUT_SECONDS)
        return {(place.topic, place.partition): max(0, place.offset) for place in found}

    def ends(self) -> dict[Partition, int]:
        """Raises KafkaException."""
        return {place: self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=_TIMEOUT_SECONDS)[1] for place in self._places}

    def close(self) -> None:
        self._consumer.close()


@dataclass(slots=True)
class Samples:
    """`run` is for a thread of its own; `memory` has the resident bytes of each kind of process, settled ones alone, as they were seen."""

    cluster: Cluster
    offsets: Offsets
    taken: int = 0
    breaches: list[str] = field(default_factory=list)
    memory: dict[str, list[int]] = field(default_factory=lambda: {"worker": [], "relay": []})
    stopping: Event = field(default_factory=Event)

    def run(self) -> None:
        while not self.stopping.wait(_EVERY_SECONDS):
            self.take_memory()
            with suppress(psycopg.OperationalError, KafkaException):  # it is away: nothing to see
                self.take()

    def take(self) -> None:
        committed = self.offsets.committed()  # before the positions, which only grow
        with psycopg.connect(self.cluster.settings.writer_dsn, connect_timeout=2) as connection:
            decided: dict[Partition, int] = {(topic, number): end for topic, number, end in rows(connection, _POSITIONS)}
            ((streaming,),) = rows(connection, _STREAMING)
        self.taken += 1
        if streaming > 1:
            self.breaches.append(f"relay: {streaming} relays stream at once")
        self.breaches += [
            f"6: {topic}[{number}] is committed up to {offset} and decided up to {decided.get((topic, number), 0)}"
            for (topic, number), offset in committed.items()
            if offset > decided.get((topic, number), 0)
        ]

    def take_memory(self) -> None:
        for member in self.cluster.members:
            process = member.running
            if process is not None and time.monotonic() - member.started > _SETTLED_SECONDS:
                with suppress(psutil.Error):
                    self.memory[member.command].append(psutil.Process(process.pid).memory_info().rss)


def rows(connection: psycopg.Connection[Any], statement: str) -> list[tuple[Any, ...]]:
    return connection.execute(statement.encode()).fetchall()
