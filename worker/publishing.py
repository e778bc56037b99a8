"""Intents out: validated and signed before they are sent, confirmed by Kafka afterwards."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event, RLock, Semaphore, Thread
from typing import TYPE_CHECKING, Any, Final, Self

from confluent_kafka import KafkaError, KafkaException, Producer

from worker.bus import BusError, partitions_of
from worker.intents import to_valid_outgoing
from worker.kafka_config import librdkafka_config
from worker.registry import RegistryError, codec_of
from worker.signatures import Signer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from confluent_kafka import Message

    from worker.codec import Codec
    from worker.intents import Intent, Outgoing
    from worker.settings import KafkaSettings

_DELIVERY_TIMEOUT_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.1
_MAX_UNCONFIRMED: Final = 2000  # of the largest that the worker takes: half of what librdkafka's queue holds, so that is never full
_PRODUCER: Final[Mapping[str, Any]] = {
    "enable.idempotence": True,  # which makes acks=all
    "partitioner": "murmur2_random",
    "linger.ms": 5,
    "delivery.timeout.ms": int(_DELIVERY_TIMEOUT_SECONDS * 1000),
    "topic.metadata.propagation.max.ms": 5_000,  # then a topic that is missing is called that
}


@dataclass(frozen=True, slots=True)
class Delivered:
    """Where an acknowledged intent lies."""

    topic: str
    partition: int
    offset: int


def signer_of(settings: KafkaSettings) -> Signer | None:
    """The key of SRE_SIGNING_KEY_FILE. Raises SigningKeyError."""
    return None if settings.signing_key_file is None else Signer.from_file(Path(settings.signing_key_file))


def signed(record: Outgoing, signer: Signer | None) -> Outgoing:
    """The record with this signature in the place of any other; as it is where there is no key."""
    return record if signer is None else replace(record, headers=signer.sign(record.headers, record.value))


class IntentPublisher:
    """Sends intents through an idempotent producer; any thread may use it. A context manager: leaving it waits for what was sent.

    A producer that could not deliver is replaced: one was seen that never did again, though the broker was back.

    Intents are signed with the key of SRE_SIGNING_KEY_FILE, where it is set.

    Callbacks added to a future run on the thread that hears from Kafka, so they must not block.
    """

    def __init__(self, settings: KafkaSettings, codec: Codec | None = None) -> None:
        self._codec = codec or codec_of(settings)
        self._signer = signer_of(settings)
        self._config = {**librdkafka_config(settings), **_PRODUCER}
        self._producer = Producer(self._config)
        self._replaced: list[Producer] = []
        self._room = Semaphore(_MAX_UNCONFIRMED)
        self._sending = RLock()
        self._closed = Event()
        self._listener = Thread(target=self._listen, name="intent-publisher", daemon=True)
        self._listener.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, intent: Intent) -> Future[Delivered]:
        """Resolves once Kafka has acknowledged the intent, else holds a BusError. Waits only where too many are unconfirmed.

        Raises IntentInvalidError where the worker would refuse it whatever the state is, and BusError once closed. In Confluent framing an
        intent of a type that was not sent before waits for the schema registry, and raises BusError where that is away.
        """
        return self._send(self._outgoing(intent))

    def publish(self, intents: Iterable[Intent]) -> list[Delivered]:
        """Send the intents in their order and wait until all are acknowledged.

        Raises IntentInvalidError before anything is sent, and BusError as soon as one is not delivered: others may be all the same.
        """
        return [future.result() for future in self._send_all(intents)]

    async def publish_async(self, intents: Iterable[Intent]) -> list[Delivered]:
        """As publish() does, without holding up the event loop."""
        futures = await asyncio.to_thread(self._send_all, list(intents))
        return await asyncio.gather(*map(asyncio.wrap_future, futures))

    def close(self) -> None:
        """Wait until each intent that was sent is acknowledged or has failed; nothing can be sent from now on."""
        with self._sending:
            self._closed.set()
        self._listener.join()

    def _outgoing(self, intent: Intent) -> Outgoing:
        try:
            return signed(to_valid_outgoing(intent, self._codec), self._signer)
        except RegistryError as error:
            raise BusError(str(error)) from error

    def _send_all(self, intents: Iterable[Intent]) -> list[Future[Delivered]]:
        """Stops at the first failure, so that a broker that is away costs one timeout, however many there are."""
        records = [self._outgoing(intent) for intent in intents]
        futures: list[Future[Delivered]] = []
        confirmed = 0
        for record in records:
            futures.append(self._send(record))
            while confirmed < len(futures) and futures[confirmed].done():
                futures[confirmed].result()
                confirmed += 1
        return futures

    def _send(self, record: Outgoing) -> Future[Delivered]:
        future: Future[Delivered] = Future()
        future.set_running_or_notify_cancel()  # what is sent can't be called back
        self._room.acquire()
        try:
            self._produce_now(future, record)
        except BaseException as error:
            self._room.release()
            if not isinstance(error, KafkaException):
                raise
            future.set_exception(_undelivered(record, error.args[0]))
        return future

    def _produce_now(self, future: Future[Delivered], record: Outgoing) -> None:
        with self._sending:  # or the listener could end between the question and the sending
            if self._closed.is_set():
                raise BusError("the publisher is closed")
            producer = self._producer
            try:
                self._produce(producer, future, record)
            except KafkaException as error:
                self._replace_broken(producer, error.args[0])
                raise

    def _produce(self, producer: Producer, future: Future[Delivered], record: Outgoing) -> None:
        report = partial(self._report, producer, future, record)
        producer.produce(record.topic, record.value, record.key, headers=list(record.headers), on_delivery=report)

    def _report(self, producer: Producer, future: Future[Delivered], record: Outgoing, error: KafkaError | None, message: Message) -> None:
        offset = message.offset()
        if error is None and offset is None:
            # The broker takes it for a repeat and does not say of what. Sent again it is one, and the worker knows it as such.
            try:
                self._produce(producer, future, record)
            except KafkaException as refusal:
                error = refusal.args[0]
            else:
                return
        self._room.release()
        if error is None:
            future.set_result(Delivered(record.topic, int(message.partition() or 0), int(offset or 0)))
        else:
            self._replace_broken(producer, error)
            future.set_exception(_undelivered(record, error))

    def _replace_broken(self, producer: Producer, error: KafkaError) -> None:
        with self._sending:  # or somebody could give it one more that nobody hears of
            if producer is self._producer and (error.fatal() or error.code() == KafkaError._MSG_TIMED_OUT):  # noqa: SLF001 - documented
                self._replaced.append(producer)
                self._producer = Producer(self._config)

    def _listen(self) -> None:
        while not self._closed.is_set() or len(self._producer) or self._replaced:
            self._producer.poll(_POLL_SECONDS)
            for producer in self._replaced[:]:
                producer.poll(0)
                if not len(producer):
                    self._replaced.remove(producer)


def _undelivered(record: Outgoing, error: KafkaError) -> BusError:
    return BusError(f"intent {dict(record.headers)['ce_id'].decode()} was not delivered to {record.topic}: {error.str()}")


def publish(settings: KafkaSettings, records: Iterable[Outgoing]) -> int:
    """Sign the records, where SRE_SIGNING_KEY_FILE is set, send them in their order and wait until Kafka has acknowledged all.

    Raises what publish_as_is() raises, and SigningKeyError.
    """
    signer = signer_of(settings)
    return publish_as_is(settings, (signed(record, signer) for record in records))


def publish_as_is(settings: KafkaSettings, records: Iterable[Outgoing]) -> int:
    """Send the records in their order and wait until Kafka has acknowledged all.

    Raises BusError where one is not, and before anything is sent where Kafka is away or a topic does not exist.
    """
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failures.append(error)

    heard: list[KafkaError] = []
    producer = Producer({**librdkafka_config(settings), **_PRODUCER, "error_cb": heard.append})
    count = 0
    known: set[str] = set()
    for record in records:
        if record.topic not in known:
            partitions_of(producer, [record.topic], heard)
            known.add(record.topic)
        while True:
            try:
                producer.produce(record.topic, record.value, record.key, headers=list(record.headers), on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
        count += 1
        if failures:
            break
    left = producer.flush(_DELIVERY_TIMEOUT_SECONDS + 1)
    if failures or left:
        raise BusError(f"not all intents were delivered: {failures[0].str() if failures else f'{left} are still waiting'}")
    return count
