"""Transactions of ours that Kafka says are over and whose records are still open: no marker was ever written behind them.

A broker that is killed and comes back can complete a transaction without its markers (run on 4.3.1; the kind is known from KIP-664). The
end of the producer's next transaction would then end those records too, whatever had become of them. So before there is a next one, the
watermark says that they are in doubt, they are aborted, and the outbox tells what is missing (rebuild.py).
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import IsolationLevel
from confluent_kafka.admin import AdminClient

from worker.relay.published import LATEST, offsets, partitions_of_topics
from worker.relay.watermark import Watermark, encode
from worker.topics import WATERMARK_TOPIC

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from worker.relay.publisher import Publisher
    from worker.relay.waiting import Waiting

    Place = tuple[str, int]

logger = logging.getLogger(__name__)

_TIMEOUT_SECONDS: Final = 20.0
_STILL_SECONDS: Final = 2.0  # other relays' transactions are over long before
_LOOK_AGAIN_SECONDS: Final = 0.1


def end_hanging(config: Mapping[str, Any], publisher: Publisher, waiting: Waiting, watermark_key: bytes, timeline: int) -> None:
    """Abort what hangs, once a watermark in doubt is committed. To be called after the fencing. Raises KafkaException and StoppedError.

    Killed in between, the next life finds the watermark in doubt.
    """
    hanging = hanging_partitions(config, waiting)
    if not hanging:
        return
    logger.warning(
        "Kafka left records of a transaction open in %d partitions: they are aborted and what is missing is published anew", len(hanging)
    )
    publisher.commit(watermark_key, encode(Watermark(timeline, 0, in_doubt=True)))
    publisher.abort_in([place for place in hanging if place[0] != WATERMARK_TOPIC])


def hanging_partitions(config: Mapping[str, Any], waiting: Waiting) -> list[Place]:
    """Those with records that no read_committed reader is given although nothing moves; without one that was fenced, ours alone."""
    admin = AdminClient(dict(config))
    places = waiting.for_call(lambda: _places(config))
    deadline = time.monotonic() + _STILL_SECONDS
    still = waiting.for_call(lambda: _open_from(admin, places))
    while still and time.monotonic() < deadline:
        waiting.for_seconds(_LOOK_AGAIN_SECONDS)
        waiting.turn()
        now = waiting.for_call(lambda: _open_from(admin, still))  # noqa: B023 - called in this turn
        still = {place: offset for place, offset in still.items() if now.get(place) == offset}
    return sorted(still)


def _places(config: Mapping[str, Any]) -> list[Place]:
    topics = {**partitions_of_topics(config, _TIMEOUT_SECONDS), WATERMARK_TOPIC: 1}
    return [(topic, number) for topic, partitions in topics.items() for number in range(partitions)]


def _open_from(admin: AdminClient, places: Collection[Place]) -> dict[Place, int]:
    """Where the first open transaction of each partition begins that has one."""
    stable = offsets(admin, places, LATEST, IsolationLevel.READ_COMMITTED, _TIMEOUT_SECONDS)
    ends = offsets(admin, places, LATEST, IsolationLevel.READ_UNCOMMITTED, _TIMEOUT_SECONDS)
    return {place: offset for place, offset in stable.items() if offset < ends[place]}
