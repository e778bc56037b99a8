"""How far the facts in Kafka reach: the end LSN of the last PostgreSQL transaction, written in the Kafka transaction that carries it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from worker.errors import WorkerError
from worker.relay.replication import format_lsn, parse_lsn
from worker.topics import WATERMARK_TOPIC

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.relay.replication import Identity

PARTITION: Final = 0
REBUILD: Final = "sre-domain relay rebuild"
_CONSUMER: Final[Mapping[str, Any]] = {
    "group.id": "sre-relay",  # asked for, though nothing is committed
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "earliest",
    "fetch.wait.max.ms": 10,  # how long the broker takes to say that there is no more
}
_NO_WATERMARK: Final = f"{WATERMARK_TOPIC} holds what is no watermark: see who else may write there, then run {REBUILD}"
_PAST_LSNS: Final = 2**64
_FIRST_LOOK_BACK: Final = 1_000  # records; a slot's last watermark is most often the last of all


class WatermarkError(WorkerError):
    """The facts in Kafka are not from this history of this database: going on would lose or repeat some."""


@dataclass(frozen=True, slots=True)
class Watermark:
    """`topics` has the cluster's ids of the topics that were published to, by name; a topic that is made anew gets another.

    `in_doubt`: what was published is not known by the LSN, and has to be compared with the outbox. `handed_to`: the slot from which
    somebody else publishes since.
    """

    timeline: int
    lsn: int
    topics: Mapping[str, str] = field(default_factory=dict)
    in_doubt: bool = False
    handed_to: str = ""


def key_of(identity: Identity, slot: str) -> bytes:
    return f"{identity.system}/{identity.database}/{slot}".encode()


def encode(watermark: Watermark) -> bytes:
    fields: dict[str, Any] = {"timeline": watermark.timeline, "lsn": format_lsn(watermark.lsn), "topics": dict(watermark.topics)}
    if watermark.in_doubt:
        fields["in_doubt"] = True
    if watermark.handed_to:
        fields["handed_to"] = watermark.handed_to
    return json.dumps(fields).encode()


def decode(value: bytes) -> Watermark:
    """Raises WatermarkError where the bytes are none: somebody else wrote to the topic, or a later version did."""
    try:
        fields = json.loads(value)
        timeline, lsn = fields["timeline"], parse_lsn(fields["lsn"])
        topics, in_doubt, handed_to = fields.get("topics", {}), fields.get("in_doubt", False), fields.get("handed_to", "")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise WatermarkError(_NO_WATERMARK) from None
    is_sound = type(timeline) is int and 0 <= lsn < _PAST_LSNS and isinstance(in_doubt, bool) and isinstance(handed_to, str)
    if not is_sound or not isinstance(topics, dict) or not all(isinstance(topic_id, str) for topic_id in topics.values()):
        raise WatermarkError(_NO_WATERMARK)
    return Watermark(timeline, lsn, topics, in_doubt, handed_to)


def is_in_doubt(committed: Mapping[bytes, bytes], key: bytes) -> bool:
    return key in committed and decode(committed[key]).in_doubt


def published_up_to(committed: Mapping[bytes, bytes], identity: Identity, slot: str) -> int:
    """The LSN of this slot's watermark, 0 where it never published anything. `identity` is younger than every committed watermark.

    Raises WatermarkError where the database's history is not the one that the watermark was written in.
    """
    value = committed.get(key_of(identity, slot))
    if value is None:
        strangers = [key.decode(errors="replace") for key in committed if key.endswith(f"/{slot}".encode())]
        if strangers:
            raise WatermarkError(
                f"slot {slot} published as {strangers[0]} (system/database/slot) before: set another SRE_RELAY_SLOT, "
                f"or run {REBUILD} where this database has replaced that one"
            )
        return 0
    watermark = decode(value)
    if watermark.in_doubt:
        raise WatermarkError(f"what slot {slot} published is in doubt: run {REBUILD}")
    if watermark.handed_to:
        raise WatermarkError(f"slot {slot} was handed over to slot {watermark.handed_to}: stop who publishes from that, then run {REBUILD}")
    if watermark.timeline not in {identity.timeline, *identity.left_at}:
        past, present = watermark.timeline, identity.timeline
        raise WatermarkError(
            f"slot {slot} published from timeline {past}, the database is on {present}, which does not come from it: run {REBUILD}"
        )
    # A promoted standby goes on from the old timeline up to where it left it: what was published before that, it has.
    last_lsn = identity.left_at.get(watermark.timeline, identity.flushed_lsn)
    if watermark.lsn > last_lsn:
        upper, last = format_lsn(watermark.lsn), format_lsn(last_lsn)
        raise WatermarkError(f"slot {slot} published up to {upper}, the database was set back to {last}: run {REBUILD}")
    return watermark.lsn


def read_committed(config: Mapping[str, Any], key: bytes, timeout_seconds: float) -> dict[bytes, bytes]:
    """The last committed value of `key`, or that of every key where it has none.

    To be called after init_transactions, which ends what this slot's relay before us left open. Other slots' transactions that are
    open in the topic are waited for: this slot's watermark may lie behind them. Raises KafkaException, _TIMED_OUT where they stay open.
    """
    deadline = time.monotonic() + timeout_seconds
    end = _end_of_topic(config, timeout_seconds)
    look_back = _FIRST_LOOK_BACK
    consumer = Consumer({**config, **_CONSUMER, "isolation.level": "read_committed"})
    try:
        while True:
            start = max(0, end - look_back)
            values = _read(consumer, start, end, deadline)
            if key in values or start == 0:
                return values
            look_back *= 10
    finally:
        consumer.close()


def _end_of_topic(config: Mapping[str, Any], timeout_seconds: float) -> int:
    """One past the last record, committed or not; a read_committed client is told of the stable ones only."""
    consumer = Consumer({**config, **_CONSUMER, "isolation.level": "read_uncommitted"})
    try:
        _first, end = consumer.get_watermark_offsets(TopicPartition(WATERMARK_TOPIC, PARTITION), timeout_seconds)
    finally:
        consumer.close()
    return end


def _read(consumer: Consumer, start: int, end: int, deadline: float) -> dict[bytes, bytes]:
    """The last committed value of each key in offsets `start` to `end`, or later."""
    consumer.assign([TopicPartition(WATERMARK_TOPIC, PARTITION, start)])
    values: dict[bytes, bytes] = {}
    position = start
    while position < end:
        if time.monotonic() > deadline:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"{WATERMARK_TOPIC} is stable up to {position} only, not to {end}"))  # noqa: SLF001
        message = consumer.poll(0.1)
        if message is None:
            continue
        error, offset = message.error(), message.offset() or 0
        if error is None:
            values[message.key() or b""] = message.value() or b""
            position = offset + 1
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
            position = offset  # past the transaction markers, which are never delivered
        else:
            raise KafkaException(error)
    return values
