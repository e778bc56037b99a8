"""The load client: asks at a given rate through one idempotent producer, plays tricks when told to, and keeps what was acknowledged."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from tests.faults.harness.acknowledged import Acknowledged, Copy, Unplaced, fingerprint
from tests.faults.harness.poison import poisoned, skewed
from tests.faults.harness.schedule import Kind
from worker.kafka_config import librdkafka_config

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Mapping

    from confluent_kafka import Message

    from tests.faults.harness.intents import Publication
    from worker.settings import Settings

_UNCONFIRMED: Final = 20_000
_RECENT: Final = 2_000
_AT_ONCE: Final = 500
_FLUSH_SECONDS: Final = 60
_PRODUCER: Final[Mapping[str, Any]] = {
    "enable.idempotence": True,
    "partitioner": "murmur2_random",
    "linger.ms": 5,
    "delivery.timeout.ms": 120_000,
    "message.max.bytes": 1_000_000,
}


@dataclass(slots=True, kw_only=True)
class Load:
    """`run` is for a thread of its own; `play` may be called from any."""

    settings: Settings
    publications: Iterator[Publication]
    rate: float
    chance: random.Random
    acknowledged: Acknowledged = field(default_factory=Acknowledged)
    sent: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    stopping: Event = field(default_factory=Event)
    first_acknowledged: float | None = None
    recent: deque[Publication] = field(default_factory=lambda: deque(maxlen=_RECENT))
    tricks: SimpleQueue[tuple[Kind, int]] = field(default_factory=SimpleQueue)

    def play(self, kind: Kind, records: int) -> None:
        self.tricks.put((kind, records))

    def run(self) -> None:
        producer = self._producer()
        began = time.monotonic()
        due = 0.0
        while not self.stopping.is_set():
            now = time.monotonic()
            due, began = due + (now - began) * self.rate, now
            while due >= 1 and len(producer) < _UNCONFIRMED:
                for _ in range(min(_AT_ONCE, int(due))):
                    self._ask(producer, next(self.publications))
                    due -= 1
                producer.poll(0)
            due = min(due, self.rate * 10)  # what could not be asked for longer than that is not made up for
            self._play_tricks(producer)
            producer.poll(0.01)
            if self._broken(producer):
                producer = self._producer()
        self.acknowledged.indeterminate += producer.flush(_FLUSH_SECONDS)

    def _producer(self) -> Producer:
        return Producer({**librdkafka_config(self.settings), **_PRODUCER})

    def _broken(self, producer: Producer) -> bool:
        """A producer that failed for good, or may have, is replaced; what it had not delivered is called indeterminate."""
        if not self.failures.pop("fatal", 0):
            return False
        producer.purge()
        producer.flush(5)
        return True

    def _play_tricks(self, producer: Producer) -> None:
        try:
            kind, records = self.tricks.get_nowait()
        except Empty:
            return
        if kind is Kind.DUPLICATE_PUBLISHING:
            first = max(0, len(self.recent) - records)
            for publication in list(self.recent)[first:]:
                self._send(producer, publication, is_copy=True)
            return
        fresh = [next(self.publications) for _ in range(records)]
        if kind is Kind.REORDERED_PUBLISHING:
            again = list(fresh)
            self.chance.shuffle(fresh)
            self.chance.shuffle(again)
            for publication in fresh:
                self._ask(producer, publication)
            for publication in again[: records // 4]:
                self._send(producer, publication, is_copy=True)
            return
        for publication in fresh:
            self._ask(producer, publication)
            spoil = skewed if kind is Kind.CLOCK_SKEW else poisoned
            self._send(producer, spoil(publication, self.chance))

    def _ask(self, producer: Producer, publication: Publication) -> None:
        self.recent.append(publication)
        self._send(producer, publication)

    def _send(self, producer: Producer, publication: Publication, *, is_copy: bool = False) -> None:
        report = partial(self._report, fingerprint(publication), publication if is_copy else None)
        topic, key, value, headers = publication
        while True:
            try:
                producer.produce(topic, value, key, headers=list(headers), on_delivery=report)
            except BufferError:
                producer.poll(0.1)
            except KafkaException as error:  # it is done for, and was not sent
                self.failures["fatal"] = 1
                self._count(error.args[0])
                return
            else:
                self.sent += 1
                return

    def _report(self, mark: int, copy: Publication | None, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.acknowledged.indeterminate += 1
            self._count(error)
            if error.fatal() or error.code() == KafkaError._MSG_TIMED_OUT:  # it may deliver nothing any more
                self.failures["fatal"] = 1
            return
        if self.first_acknowledged is None:
            self.first_acknowledged = time.monotonic()
        topic, partition, offset = str(message.topic()), int(message.partition() or 0), message.offset()
        intent = None if copy is None else _intent_of(copy)
        if offset is None:
            what = f"{topic}[{partition}] {message.key()!r:.60} {message.headers()!r:.300}"
            self.acknowledged.unplaced[mark] = Unplaced(what, intent)
            return
        self.acknowledged.note(topic, partition, offset, mark)
        if intent is not None:
            self.acknowledged.copies.append(Copy(topic, partition, offset, *intent))

    def _count(self, error: KafkaError) -> None:
        name = str(error.name())
        self.failures[name] = self.failures.get(name, 0) + 1


def _intent_of(publication: Publication) -> tuple[str, str]:
    headers = dict(publication.headers)
    return (headers["ce_tenantid"] or b"").decode(), (headers["ce_id"] or b"").decode()
