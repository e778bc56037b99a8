"""What is left of a producer that failed; the rest of the publisher is held against a real Kafka."""

import gc
from collections.abc import Iterator
from contextlib import closing
from threading import Event

import pytest
from confluent_kafka import KafkaException, Producer

from worker.relay.publisher import Publisher
from worker.relay.status import RelayStatus
from worker.relay.waiting import Waiting


@pytest.fixture
def without_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_garbage_collection")
def test_a_producer_that_failed_ends_with_its_publisher() -> None:
    """It would go on trying in its own threads, and fence the next one."""
    with closing(Waiting(Event(), RelayStatus())) as waiting:
        publisher = Publisher({"bootstrap.servers": "127.0.0.1:1", "log_level": 0}, "slot", 1.0, waiting)
        with pytest.raises(KafkaException, match="Connection refused"):
            publisher.fence()
        publisher.close()
        assert [found for found in gc.get_objects() if isinstance(found, Producer)] == []
