"""The transactional producer: one Kafka transaction at a time, and the watermark inside it."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from worker.relay.waiting import StoppedError
from worker.topics import WATERMARK_TOPIC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from confluent_kafka import Message

    from worker.relay.record import Header, Record
    from worker.relay.waiting import Waiting

_ABORT_SECONDS: Final = 1.0
_FULL_QUEUE_SECONDS: Final = 0.1
# What the broker takes for the last transaction's markers, of the commit's time: a transaction before that, librdkafka puts off by 20 ms.
_MARKERS_SHARE: Final = 0.25
_MARKERS_MAX_SECONDS: Final = 0.005
# Queued in one go, so that one request registers all partitions of a small transaction; before a second, librdkafka waits 1 ms.
_BURST: Final = 100
_MIB: Final = 1_048_576
_DISCONNECTED: Final = (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN)  # noqa: SLF001
_PRODUCER: Final[Mapping[str, Any]] = {
    "compression.type": "lz4",
    "message.max.bytes": 4 * _MIB,  # above the largest row the outbox takes: none may stop all behind it
    # What a big PostgreSQL transaction takes of memory on its way through: the bytes leave out the headers, so both.
    "queue.buffering.max.kbytes": 32 * 1024,
    "queue.buffering.max.messages": 20_000,
    "delivery.report.only.error": True,
    "topic.metadata.propagation.max.ms": 5_000,  # then a topic that is missing is called that
}


class Publisher:
    """A producer whose transactional.id is the slot's name. After any error it is done for.

    A new one then finds out what became of the open transaction; to go on with this one could end the next transaction instead.
    """

    def __init__(self, config: Mapping[str, Any], slot: str, transaction_timeout_seconds: float, waiting: Waiting) -> None:
        self._waiting = waiting
        self._timeout_seconds = transaction_timeout_seconds
        self._in_transaction = False
        self._held: list[Record] = []
        self._begun = math.inf
        self._markers_due = -math.inf
        complaints, disconnections = list[str](), list[str]()  # not self in the callbacks: no cycle may keep the producer alive
        self._complaints, self._disconnections = complaints, disconnections

        def hear(error: KafkaError) -> None:
            if error.code() in _DISCONNECTED:
                disconnections.append(error.str())
            if error.code() != KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001
                complaints.append(error.str())

        def hear_of(error: KafkaError, message: Message) -> None:
            if error.code() != KafkaError._PURGE_QUEUE:  # noqa: SLF001 - what it was purged for is in the transaction's own error
                complaints.append(f"{message.topic()}[{message.partition()}]: {error.str()}")

        own = {
            "transactional.id": slot,
            "transaction.timeout.ms": int(transaction_timeout_seconds * 1000),
            "error_cb": hear,
            "on_delivery": hear_of,
        }
        self._producer = Producer({**config, **_PRODUCER, **own})

    def fence(self) -> None:
        """Shut out whoever had this transactional.id before, and end what they left open. Raises KafkaException."""
        self._call(lambda: self._producer.init_transactions(self._timeout_seconds))
        self._disconnections.clear()

    def check_connection(self) -> None:
        """Raises KafkaException where a broker went away since the fencing; to be called now and then while there is nothing to publish.

        Whether it came back with all our transactions as they were, only a new life asks.
        """
        self._producer.poll(0)
        if self._disconnections:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT, self._disconnections[0]))  # noqa: SLF001

    def publish(self, record: Record) -> None:
        """Put the record in the open transaction, or in a new one. Raises KafkaException, and StoppedError where the queue is full."""
        self._begin()
        self._held.append(record)
        if len(self._held) >= _BURST:
            self._queue_held()

    def commit(self, watermark_key: bytes, watermark: bytes) -> None:
        """End the transaction, or one that has nothing else, with the watermark in it. Raises KafkaException."""
        self._begin()
        self._queue_held()
        self._produce(WATERMARK_TOPIC, 0, watermark_key, watermark, [])
        self._in_transaction = False  # whatever comes of it: no abort may follow
        began = time.monotonic()
        # No timeout of ours: one that lapses can end the next transaction. No bound method: it would keep the producer alive.
        self._call(lambda: self._producer.commit_transaction())  # noqa: PLW0108
        committed = time.monotonic()
        self._markers_due = committed + min((committed - began) * _MARKERS_SHARE, _MARKERS_MAX_SECONDS)
        self._complaints.clear()

    def abort_in(self, places: Iterable[tuple[str, int]]) -> None:
        """End as aborted what earlier transactions of this id left open in these partitions. Raises KafkaException.

        A marker of the broker's ends all that is open of a producer, and it is written where the transaction has a record.
        """
        self._begin()
        for topic, partition in places:
            self._produce(topic, partition, None, b"", [])
        # An abort forgets what was not sent.
        self._call(lambda: self._producer.flush())  # noqa: PLW0108 - a bound method would keep the producer alive
        self._in_transaction = False
        self._call(lambda: self._producer.abort_transaction())  # noqa: PLW0108
        self._complaints.clear()

    def outlived_transaction(self) -> bool:
        """Whether the last transaction is so old that the broker may have ended it, which looks like being fenced (KIP-588)."""
        return time.monotonic() - self._begun > self._timeout_seconds

    def close(self) -> None:
        """Abort the open transaction, so that readers need not wait for its timeout, and end the producer's threads.

        A producer that is merely forgotten goes on with what it was at: its init_transactions would fence our successor.
        """
        with suppress(KafkaException, StoppedError):
            if self._in_transaction:
                self._waiting.for_call(lambda: self._producer.abort_transaction(_ABORT_SECONDS))
        self._producer.purge()
        del self._producer  # the only reference, so that it ends here; its close() would wait for what can't be delivered

    def _begin(self) -> None:
        if not self._in_transaction:
            self.check_connection()
            time.sleep(max(0, self._markers_due - time.monotonic()))
            self._begun = time.monotonic()
            self._producer.begin_transaction()
            self._in_transaction = True

    def _queue_held(self) -> None:
        for record in self._held:
            self._produce(*record)
        self._held.clear()

    def _produce(self, topic: str, partition: int, key: bytes | None, value: bytes, headers: list[Header]) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, partition, headers=headers)
            except BufferError:  # the queue is full
                self._producer.poll(_FULL_QUEUE_SECONDS)
                self._waiting.turn()
            except KafkaException as error:
                if error.args[0].code() == KafkaError._STATE:  # noqa: SLF001
                    self._producer.begin_transaction()  # which can't be, and says what the transaction failed of
                raise
            else:
                return

    def _call(self, call: Callable[[], object]) -> None:
        try:
            self._waiting.for_call(call)
        except KafkaException as error:
            self._producer.poll(0)  # for the complaints
            fault: KafkaError = error.args[0]
            if fault.fatal() or not self._complaints:
                raise
            raise KafkaException(KafkaError(fault.code(), self._complaints[0])) from error
