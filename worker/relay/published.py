"""What is in the topics of facts and rejections: read once, `read_committed`, to the end that they have when the reading begins."""

from __future__ import annotations

import re
import time
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from uuid import UUID

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from worker.topics import REJECTED_TOPIC, facts_topic

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from confluent_kafka import Message

_FACTS: Final = re.compile(re.escape(facts_topic("*")).replace(r"\*", "[a-z]+"))
_CONSUMER: Final[Mapping[str, Any]] = {
    "group.id": "sre-relay",  # asked for, though nothing is committed
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "earliest",
    "fetch.wait.max.ms": 50,
    # What is fetched ahead, a partition or in all: these count neither headers nor the client's own records.
    "queued.max.messages.kbytes": 4 * 1024,
    "queued.min.messages": 2_000,
    "fetch.message.max.bytes": 256 * 1024,
}
LATEST: Final[OffsetSpec] = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_A_TURN: Final = 1_000
_NOT_LED: Final = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)
_LEADER_SECONDS: Final = 20.0
_LOOK_AGAIN_SECONDS: Final = 0.1

Result = TypeVar("Result")


class Published(NamedTuple):
    """A record as rows of the outbox are compared with it: `content` is the SHA-256 of value, ce_time and causation id.

    A rejection has no version.
    """

    id: UUID
    content: bytes
    aggregatetype: str | None
    tenant_id: str
    aggregateid: str | None
    version: int | None


def once_led(ask: Callable[[], Result]) -> Result:
    """What `ask` gives once its partitions have leaders, which those of a topic that was just made have not for a moment."""
    deadline = time.monotonic() + _LEADER_SECONDS
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in _NOT_LED or time.monotonic() > deadline:
                raise
        time.sleep(_LOOK_AGAIN_SECONDS)


class Range(NamedTuple):
    """Offsets of a partition: `start` is the first that is asked for, `end` one past the last, committed or not."""

    topic: str
    partition: int
    start: int
    end: int


def partitions_of_topics(config: Mapping[str, Any], timeout_seconds: float) -> dict[str, int]:
    """The topics of facts and rejections that the cluster has, and how many partitions each. Raises KafkaException."""
    topics = AdminClient(dict(config)).list_topics(timeout=timeout_seconds).topics
    return {name: len(topic.partitions) for name, topic in topics.items() if name == REJECTED_TOPIC or _FACTS.fullmatch(name)}


def ranges(config: Mapping[str, Any], topics: Mapping[str, int], timeout_seconds: float, since_ms: int | None = None) -> list[Range]:
    """The partitions with a record as young as `since_ms`, or with any; `start` is where the first such record lies.

    Raises KafkaException.
    """
    admin = AdminClient(dict(config))
    places = [(topic, number) for topic, partitions in topics.items() for number in range(partitions)]
    first: OffsetSpec = OffsetSpec.earliest() if since_ms is None else OffsetSpec.for_timestamp(since_ms)  # type: ignore[no-untyped-call]
    starts = offsets(admin, places, first, IsolationLevel.READ_UNCOMMITTED, timeout_seconds)
    ends = offsets(admin, places, LATEST, IsolationLevel.READ_UNCOMMITTED, timeout_seconds)
    # -1: no record is so young.
    return [Range(*place, start, ends[place]) for place, start in starts.items() if 0 <= start < ends[place]]


def offsets(
    admin: AdminClient, places: Collection[tuple[str, int]], of: OffsetSpec, level: IsolationLevel, timeout_seconds: float
) -> dict[tuple[str, int], int]:
    """By topic and partition. Raises KafkaException."""
    if not places:
        return {}
    wanted = {TopicPartition(*place): of for place in places}
    found = once_led(lambda: [each.result() for each in _asked(admin, wanted, level, timeout_seconds)])
    return {place: info.offset for place, info in zip(places, found, strict=True)}


def _asked(admin: AdminClient, wanted: Mapping[TopicPartition, OffsetSpec], level: IsolationLevel, timeout_seconds: float) -> list[Any]:
    futures = admin.list_offsets(dict(wanted), isolation_level=level, request_timeout=timeout_seconds)
    return [futures[place] for place in wanted]


def read(config: Mapping[str, Any], wanted: Sequence[Range], timeout_seconds: float) -> Iterator[tuple[list[Message], int]]:
    """Batches of committed records, each with the number of offsets that are behind us by then.

    Transactions that are open at the end are waited for. Raises KafkaException, _TIMED_OUT where nothing moves for so long.
    """
    consumer = Consumer({**config, **_CONSUMER, "isolation.level": "read_committed"})
    try:
        consumer.assign([TopicPartition(topic, partition, start) for topic, partition, start, _end in wanted])
        positions = {(topic, partition): start for topic, partition, start, _end in wanted}
        ends = {(topic, partition): end for topic, partition, _start, end in wanted}
        behind, done, deadline = set(ends), 0, time.monotonic() + timeout_seconds
        while behind:
            records = []
            for message in consumer.consume(_A_TURN, 0.1):
                error, place, offset = message.error(), (message.topic() or "", message.partition() or 0), message.offset() or 0
                if error is None:
                    records.append(message)
                    offset += 1
                elif error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001
                    raise KafkaException(error)
                if offset > positions[place]:
                    done += offset - positions[place]
                    positions[place] = offset
                    deadline = time.monotonic() + timeout_seconds
                if offset >= ends[place]:
                    behind.discard(place)
            if records:
                yield records, done
            if time.monotonic() > deadline:
                stuck = ", ".join(f"{topic}[{partition}]" for topic, partition in sorted(behind))
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"an open transaction hides the end of {stuck}"))  # noqa: SLF001
    finally:
        consumer.close()


def published(message: Message) -> Published | None:
    """None for a record that is not ours: without a ce_id that is a UUID, or with a version that is no number."""
    headers: dict[str, Any] = dict(message.headers() or ())
    try:
        version = headers.get("ce_aggregateversion")
        return Published(
            UUID(headers["ce_id"].decode()),
            sha256((message.value() or b"") + headers["ce_time"] + (headers.get("ce_causationid") or b"")).digest(),
            _text(headers.get("ce_aggregatetype")),
            _text(headers.get("ce_tenantid")) or "",
            _text(headers.get("ce_aggregateid")),
            None if version is None else int(version),
        )
    except (KeyError, ValueError, AttributeError, TypeError):
        return None


def _text(header: bytes | None) -> str | None:
    if header is not None and b"\x00" in header:
        raise ValueError("PostgreSQL's text has no NUL")
    return None if header is None else header.decode()
