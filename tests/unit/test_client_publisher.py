"""A publisher whose broker is away: every call ends, with the reason, and in time."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from confluent_kafka import KafkaError, KafkaException

from tests.support.records import CODEC, window
from worker import publishing
from worker.client import BusError, Intent, IntentInvalidError, IntentPublisher
from worker.devstack.processes import free_port
from worker.settings import KafkaSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Report = Callable[[KafkaError | None, Any], None]

TIMEOUT_SECONDS = 1.0
LATEST_SECONDS = 5.0  # librdkafka looks once a second for what has timed out


def intents(count: int) -> list[Intent]:
    return [Intent("RecordSLIWindowRequested", "acme", "checkout", window(minute), "/tests") for minute in range(count)]


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Iterator[IntentPublisher]:
    quick = {**publishing._PRODUCER, "delivery.timeout.ms": int(TIMEOUT_SECONDS * 1000)}
    monkeypatch.setattr(publishing, "_PRODUCER", quick)
    monkeypatch.setattr(publishing, "_MAX_UNCONFIRMED", 10)
    with IntentPublisher(KafkaSettings(kafka_bootstrap_servers=f"127.0.0.1:{free_port()}"), CODEC) as made:
        yield made


@contextmanager
def in_time() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < LATEST_SECONDS


def test_a_broker_that_is_away_ends_in_an_error_on_the_future(publisher: IntentPublisher) -> None:
    (intent,) = intents(1)
    with in_time(), pytest.raises(BusError, match=intent.intent_id):
        publisher.send(intent).result()


def test_more_intents_than_may_wait_cost_one_timeout(publisher: IntentPublisher) -> None:
    with in_time(), pytest.raises(BusError, match="was not delivered to"):
        publisher.publish(intents(100))


def test_an_event_loop_runs_on_meanwhile(publisher: IntentPublisher) -> None:
    async def ticks_while_publishing() -> int:
        publishing_ = asyncio.ensure_future(publisher.publish_async(intents(100)))
        ticks = 0
        while not publishing_.done():
            await asyncio.sleep(0.01)
            ticks += 1
        with pytest.raises(BusError):
            await publishing_
        return ticks

    with in_time():
        assert asyncio.run(ticks_while_publishing()) > 20


def test_closing_waits_until_what_was_sent_has_failed(publisher: IntentPublisher) -> None:
    futures = [publisher.send(intent) for intent in intents(10)]
    with in_time():
        publisher.close()
    assert all(isinstance(future.exception(timeout=0), BusError) for future in futures)


def test_a_closed_publisher_refuses_and_may_be_closed_again(publisher: IntentPublisher) -> None:
    publisher.close()
    publisher.close()
    with pytest.raises(BusError, match="closed"):
        publisher.send(intents(1)[0])
    with pytest.raises(BusError, match="closed"):
        publisher.publish(intents(1))


def test_an_invalid_intent_is_refused_without_a_broker(publisher: IntentPublisher) -> None:
    wrong = Intent("RecordSLIWindowRequested", "acme", "checkout", window(3, good=101), "/tests")
    with pytest.raises(IntentInvalidError, match="SLI_COUNTS_INVALID"):
        publisher.send(wrong)
    with in_time(), pytest.raises(IntentInvalidError):
        publisher.publish([*intents(5), wrong])
    assert publisher._room._value == publishing._MAX_UNCONFIRMED  # nothing is on its way


def test_what_librdkafka_says_goes_to_a_logger(
    publisher: IntentPublisher, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(BusError):
        publisher.publish(intents(1))
    assert "librdkafka" in {record.name for record in caplog.records}
    assert capfd.readouterr().err == ""


def test_an_intent_acknowledged_without_a_place_is_sent_again(publisher: IntentPublisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """As librdkafka reports what the broker takes for a repeat."""
    places, sent = [None, 7], list[bytes]()

    class Placed(NamedTuple):
        place: int | None

        def partition(self) -> int:
            return 3

        def offset(self) -> int | None:
            return self.place

    class Producer:
        def produce(self, _topic: str, value: bytes, _key: bytes, on_delivery: Callable[[None, Placed], None], **_: object) -> None:
            sent.append(value)
            on_delivery(None, Placed(places[len(sent) - 1]))

        def poll(self, _seconds: float) -> None:
            time.sleep(0.01)

        def __len__(self) -> int:
            return 0

    monkeypatch.setattr(publisher, "_producer", Producer())
    (intent,) = intents(1)
    assert publisher.send(intent).result().offset == 7
    assert sent == [sent[0]] * 2


@pytest.mark.parametrize("code", [KafkaError._MSG_TIMED_OUT, KafkaError._FATAL])
def test_a_producer_that_does_not_deliver_is_replaced(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """One may be stuck for ever. What it still has is reported by itself; whoever asks again has another."""
    made: list[Producer] = []

    class Placed(NamedTuple):
        def partition(self) -> int:
            return 3

        def offset(self) -> int:
            return 7

    class Producer:
        def __init__(self, _config: object) -> None:
            made.append(self)
            self.reports: list[Callable[[KafkaError | None, Placed], None]] = []

        def produce(
            self, _topic: str, _value: bytes, _key: bytes, on_delivery: Callable[[KafkaError | None, Placed], None], **_: object
        ) -> None:
            if self is made[0] and code == KafkaError._FATAL:
                raise KafkaException(KafkaError(code, "broken", True))  # noqa: FBT003 - fatal
            self.reports.append(on_delivery)

        def poll(self, _seconds: float) -> None:
            time.sleep(0.01)
            for report in [self.reports.pop() for _ in self.reports[:1]]:
                report(KafkaError(code) if self is made[0] else None, Placed())

        def __len__(self) -> int:
            return len(self.reports)

    monkeypatch.setattr(publishing, "Producer", Producer)
    with IntentPublisher(KafkaSettings(kafka_bootstrap_servers="127.0.0.1:1"), CODEC) as publisher:
        for future in [publisher.send(intent) for intent in intents(3)][:1]:
            assert isinstance(future.exception(), BusError)
        (intent,) = intents(1)
        assert publisher.send(intent).result().offset == 7
    assert len(made) == 2
