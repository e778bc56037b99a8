"""What Faust and aiokafka know of themselves: whether the worker has its place in the group, and what it still has to decide."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from faust.types import TP

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator, Mapping

    import faust


class Due(NamedTuple):
    """What a worker should get over soon (it has no place in its group, say), and what it has to decide; None for nothing."""

    trouble: str | None = None
    work: str | None = None


async def what_is_due(app: faust.App) -> Due:
    """As it is now. Kafka is asked, since what the consumer knows of a topic's end may be old.

    Offsets that hold nothing to decide, as those of transaction markers and of records past their retention, are not due.
    Raises aiokafka.errors.KafkaError.
    """
    consumer = _aiokafka(app)
    if consumer is None:
        return Due(trouble="its consumer has not started")
    if app.rebalancing or consumer._coordinator.generation < 1:  # noqa: SLF001
        return Due(trouble="it is not in its consumer group")
    mine = app.consumer.assignment()
    known = mine or {TP(topic, 0) for topic in sorted(consumer.subscription())[:1]}  # to hear from Kafka without partitions, too
    ends = await _thread(app).highwaters(*known)
    behind = sum(partition in ends and ends[partition] > _position(consumer, partition, ends[partition]) for partition in mine)
    taken = sum(1 for _ in taken_messages(app))
    if not behind and not taken:
        return Due()
    return Due(work=f"{behind} of its {len(mine)} partitions have records to be fetched, {taken} fetched records are to be decided")


class Backlog(NamedTuple):
    """How many records of this worker's partitions have no outcome yet, by topic.

    `oldest_taken` is the broker's timestamp, in seconds, of the oldest one that was fetched.
    """

    records: Mapping[str, int]
    oldest_taken: float | None


async def backlog(app: faust.App) -> Backlog | None:
    """As it is now, or None where the worker has no consumer. Kafka is asked for the ends of topics. Raises aiokafka.errors.KafkaError."""
    consumer = _aiokafka(app)
    if consumer is None:
        return None
    mine = app.consumer.assignment()
    ends = await _thread(app).highwaters(*mine) if mine else {}
    records: Counter[str] = Counter()
    for partition, end in ends.items():
        records[partition.topic] += max(0, end - _position(consumer, partition, end))
    taken = list(taken_messages(app))
    records.update(message.topic for message in taken)
    return Backlog(records, min((message.timestamp for message in taken), default=None))


def consumer_loop(app: faust.App) -> asyncio.AbstractEventLoop | None:
    """The loop of the thread that speaks with Kafka; None before it has started."""
    return None if _aiokafka(app) is None else cast("asyncio.AbstractEventLoop", _thread(app).thread_loop)


def give_up_taken(app: faust.App) -> None:
    """Let Faust stop without the outcomes that it waits for; what is not acknowledged comes again."""
    app.consumer.unacked.clear()


def partitions(app: faust.App) -> int:
    """How many partitions are this worker's."""
    return 0 if _aiokafka(app) is None else len(app.consumer.assignment())


def taken_messages(app: faust.App) -> Iterator[Any]:
    """Faust's messages that were fetched and not acknowledged: in the buffers of the streams, and in the hands of the agents."""
    for topic in app.topics:
        buffer: Any = topic.queue
        yield from (event.message for event in buffer._queue)  # noqa: SLF001
    yield from app.consumer.unacked


def _aiokafka(app: faust.App) -> Any | None:  # noqa: ANN401 - aiokafka is untyped
    return None if app._consumer is None else _thread(app)._consumer  # noqa: SLF001 - app.consumer would make one


def _thread(app: faust.App) -> Any:  # noqa: ANN401 - it is not in the interface that Faust's types describe
    return cast("Any", app.consumer)._thread  # noqa: SLF001


def _position(consumer: Any, partition: TP, end: int) -> int:  # noqa: ANN401 - aiokafka is untyped
    """The offset to be fetched next; `end` while the partition is being given away, since then it is another's to fetch."""
    assignment = consumer._fetcher._subscriptions.subscription.assignment  # noqa: SLF001
    state = None if assignment is None else next((assignment.state_value(known) for known in assignment.tps if known == partition), None)
    return end if state is None else int(state.position) if state.has_valid_position else 0
