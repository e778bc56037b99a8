"""Facts in, for a projection: each once and in order, going on where the projection's own database says it is."""

from __future__ import annotations

import logging
from threading import Event
from typing import TYPE_CHECKING, Final, Protocol

from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from worker.committed import committed_consumer, poll_together
from worker.errors import WorkerError
from worker.messages import read_any_fact
from worker.registry import RegistryAwayError, codec_of
from worker.topics import facts_topic

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from confluent_kafka import Message

    from worker.codec import Codec
    from worker.messages import ReceivedFact
    from worker.settings import KafkaSettings


_AWAY_SECONDS: Final = 1.0  # between two questions to a schema registry that is away
_LOG = logging.getLogger(__name__)


class FactGapError(WorkerError):
    """A version is missing before `fact`: neither it nor what follows may be applied. `last_version` is the one applied last."""

    def __init__(self, fact: ReceivedFact, last_version: int) -> None:
        super().__init__(
            f"gap: version {fact.version} of {fact.aggregate} {fact.tenant_id}/{fact.aggregate_id} follows {last_version}"
            f" in {fact.topic}, partition {fact.partition}, offset {fact.offset}: read the partition again from an earlier offset"
        )
        self.fact = fact
        self.last_version = last_version


class FactUnreadableError(WorkerError):
    """A message on a fact topic is no fact, or was written with a schema that is younger than this reader."""


class Positions(Protocol):
    """How far a projection is, read from the database of its effects; it stores both there, in the transaction of the effect."""

    def next_offset(self, topic: str, partition: int) -> int | None:
        """The offset after that of the last fact applied; None before the first."""

    def last_version(self, tenant_id: str, aggregate: str, aggregate_id: str) -> int:
        """The version applied last; 0 before the first."""


class FactReader:
    """Reads the fact topics of some aggregates in lists of facts, each list to be applied in one transaction before the next is asked for.

    Nothing is committed to Kafka, and no group is joined. `partitions` are those to read, where several processes share the work.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        aggregates: Iterable[str],
        positions: Positions,
        *,
        partitions: Collection[int] | None = None,
        codec: Codec | None = None,
    ) -> None:
        self._settings = settings
        self._topics = [facts_topic(name) for name in aggregates]
        self._positions = positions
        self._partitions = partitions
        self._codec = codec or codec_of(settings)
        self._stopped = Event()

    def follow(self) -> Iterator[list[ReceivedFact]]:
        """Facts as they come, until stop().

        A fact is an UnknownFact where it is younger than this reader: store its version all the same. Repeats are left out. What precedes
        a gap is handed over before FactGapError is raised; so it is with FactUnreadableError. Raises BusError where Kafka is away at the
        start, a topic does not exist or a stored offset is not there.
        """
        return self._read(follow=True)

    def catch_up(self) -> Iterator[list[ReceivedFact]]:
        """As follow() does, up to the end of each partition as it is now."""
        return self._read(follow=False)

    def stop(self) -> None:
        """End the reading after the list that was handed over last, at most half a second from now; any thread may call it."""
        self._stopped.set()

    def _read(self, *, follow: bool) -> Iterator[list[ReceivedFact]]:
        consumer, partitions = committed_consumer(self._settings, self._topics, where_lost="error")
        try:
            unread = {place for place in partitions if self._partitions is None or place[1] in self._partitions}
            consumer.assign([self._start(*place) for place in sorted(unread)])
            while (follow or unread) and not self._stopped.is_set():
                polled, ended = poll_together(consumer)
                messages: Sequence[Message] = polled
                unread -= ended
                waiting = False
                while messages and not self._stopped.is_set():
                    facts, fault, messages = self._new_facts(messages)
                    if facts:
                        yield facts
                    if isinstance(fault, RegistryAwayError):
                        if not waiting:
                            _LOG.warning("waiting for the schema registry: %s", fault)
                        waiting = True
                        self._stopped.wait(_AWAY_SECONDS)
                    elif fault is not None:
                        raise fault
        finally:
            consumer.close()

    def _start(self, topic: str, partition: int) -> TopicPartition:
        offset = self._positions.next_offset(topic, partition)
        return TopicPartition(topic, partition, OFFSET_BEGINNING if offset is None else offset)

    def _new_facts(self, messages: Sequence[Message]) -> tuple[list[ReceivedFact], WorkerError | None, Sequence[Message]]:
        """The facts to apply next, why nothing may follow them, and what follows once that is over."""
        facts: list[ReceivedFact] = []
        versions: dict[tuple[str, str, str], int] = {}
        for number, message in enumerate(messages):
            try:
                fact = read_any_fact(message, self._codec)
            except RegistryAwayError as away:
                return facts, away, messages[number:]
            except ValueError as error:
                return facts, _unreadable(message, error), ()
            aggregate = fact.tenant_id, fact.aggregate, fact.aggregate_id
            last = versions[aggregate] if aggregate in versions else self._positions.last_version(*aggregate)
            if fact.version > last + 1:
                return facts, FactGapError(fact, last), ()
            if fact.version == last + 1:
                facts.append(fact)
            versions[aggregate] = max(last, fact.version)
        return facts, None, ()


def _unreadable(message: Message, error: ValueError) -> FactUnreadableError:
    return FactUnreadableError(f"{message.topic()}, partition {message.partition()}, offset {message.offset()} can't be read: {error}")
