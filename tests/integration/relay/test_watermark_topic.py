"""Reading the watermark topic to its end, also behind other slots' transactions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from tests.integration.relay.harness import wait_until
from worker.relay.watermark import read_committed
from worker.topics import WATERMARK_TOPIC

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("topics")
KEY = b"7412/sre/sre_outbox"


@pytest.fixture
def config(kafka: str) -> dict[str, str]:
    config = {"bootstrap.servers": kafka}
    wait_until(lambda: has_leader(config), "the new topic has a leader")
    return config


def has_leader(config: dict[str, str]) -> bool:
    try:
        read_committed(config, KEY, 20)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION:
            raise
        return False
    return True


@pytest.fixture
def other_slot(config: dict[str, str]) -> Iterator[Producer]:
    """The producer of another slot's relay."""
    producer = transactional_producer(config)
    yield producer
    producer.purge()


def transactional_producer(config: dict[str, str]) -> Producer:
    producer = Producer(config | {"transactional.id": f"slot_{uuid4().hex}"})
    producer.init_transactions(30)
    return producer


def commit_watermarks(producer: Producer, key: bytes, *values: bytes) -> None:
    producer.begin_transaction()
    for value in values:
        producer.produce(WATERMARK_TOPIC, value, key, 0)
    producer.commit_transaction(30)


def test_an_empty_topic_has_no_watermark(config: dict[str, str]) -> None:
    assert read_committed(config, KEY, 20) == {}


def test_the_last_committed_value_counts(config: dict[str, str]) -> None:
    producer = transactional_producer(config)
    commit_watermarks(producer, KEY, b"1")
    commit_watermarks(producer, KEY, b"2", b"3")
    producer.begin_transaction()
    producer.produce(WATERMARK_TOPIC, b"aborted", KEY, 0)
    producer.flush(30)
    producer.abort_transaction(30)
    assert read_committed(config, KEY, 20) == {KEY: b"3"}


def test_a_watermark_far_behind_those_of_other_slots_is_found(config: dict[str, str], other_slot: Producer) -> None:
    commit_watermarks(transactional_producer(config), KEY, b"1")
    commit_watermarks(other_slot, b"7412/sre/other", *(b"%d" % number for number in range(3_000)))
    assert read_committed(config, KEY, 20) == {KEY: b"1", b"7412/sre/other": b"2999"}


def test_every_slot_is_told_of_where_there_is_no_watermark(config: dict[str, str], other_slot: Producer) -> None:
    commit_watermarks(other_slot, b"7412/sre/other", *(b"%d" % number for number in range(3_000)))
    assert read_committed(config, KEY, 20) == {b"7412/sre/other": b"2999"}


def test_a_watermark_behind_an_open_transaction_is_waited_for(config: dict[str, str], other_slot: Producer) -> None:
    """A reader would be content with what lies before that transaction: the watermark before the last."""
    producer = transactional_producer(config)
    commit_watermarks(producer, KEY, b"1")
    other_slot.begin_transaction()
    other_slot.produce(WATERMARK_TOPIC, b"1", b"7412/sre/other", 0)
    other_slot.flush(30)
    commit_watermarks(producer, KEY, b"2")
    with pytest.raises(KafkaException) as stays_open:
        read_committed(config, KEY, 1)
    assert stays_open.value.args[0].code() == KafkaError._TIMED_OUT
    with ThreadPoolExecutor() as threads:
        reading = threads.submit(read_committed, config, KEY, 30)
        other_slot.commit_transaction(30)
        assert reading.result(30) == {KEY: b"2", b"7412/sre/other": b"1"}
