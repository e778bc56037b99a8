"""Topics that were lost and made anew: what the slot will never stream again would be missing from them, and nobody would notice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import TopicCollection, Uuid
from confluent_kafka.admin import AdminClient

from worker.errors import WorkerError
from worker.postgres.named_sql import statements
from worker.relay import replication
from worker.relay.published import partitions_of_topics, ranges, read
from worker.relay.replication import format_lsn
from worker.relay.watermark import REBUILD, Watermark, decode
from worker.topics import WATERMARK_TOPIC

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIMEOUT_SECONDS: Final = 20.0
_NO_ID: Final = str(Uuid(0, 0))  # from a broker that gives its topics none


class TopicsLostError(WorkerError):
    """The topics of facts, or that of the watermarks, do not hold what was published: going on would leave a hole or repeat facts."""


def topic_ids(config: Mapping[str, Any]) -> dict[str, str]:
    """The cluster's ids of the topics of facts and rejections, by name. Raises KafkaException."""
    names = sorted(partitions_of_topics(config, _TIMEOUT_SECONDS))
    if not names:
        return {}
    admin = AdminClient(dict(config))  # it answers as long as there is a reference to it
    described = admin.describe_topics(TopicCollection(names), request_timeout=_TIMEOUT_SECONDS)
    ids = {name: str(future.result().topic_id) for name, future in described.items()}
    return {name: topic_id for name, topic_id in ids.items() if topic_id != _NO_ID}


def made_anew(watermark: Watermark, topics: Mapping[str, str]) -> list[str]:
    """The topics that were published to and are not there any more, or have another id; `topics` has the ids of those that are there."""
    return sorted(name for name, topic_id in watermark.topics.items() if topics.get(name) != topic_id)


def refuse_lost_topics(
    config: Mapping[str, Any], dsn: str, slot: str, key: bytes, committed: Mapping[bytes, bytes], topics: Mapping[str, str]
) -> None:
    """Raises TopicsLostError where a topic was made anew since this slot published to it, or there are records that no watermark tells of.

    `committed` are the watermarks of every slot, or the one of this, whose key is `key`; `topics` the topics' ids, without which a
    loss is noticed where all topics are empty. Raises KafkaException and psycopg.Error.
    """
    watermark = decode(committed[key]) if key in committed else Watermark(0, 0)
    if watermark.lsn == 0 and committed:  # other slots' records are no wonder
        return
    if lost := made_anew(watermark, topics):
        raise TopicsLostError(
            f"topics were deleted, or made anew, since slot {slot} published: {', '.join(lost)}; run sre-domain topics, then run {REBUILD}"
        )
    if watermark.topics:
        return
    ends = ranges(config, partitions_of_topics(config, _TIMEOUT_SECONDS), _TIMEOUT_SECONDS)
    if watermark.lsn > 0:
        if not ends:
            raise TopicsLostError(f"slot {slot} published up to {format_lsn(watermark.lsn)} and no topic holds anything: run {REBUILD}")
    # A first transaction that was aborted leaves offsets behind, too.
    elif next(read(config, ends, _TIMEOUT_SECONDS), None) is not None:
        raise TopicsLostError(f"there are records in the topics and {WATERMARK_TOPIC} does not say up to where: run {REBUILD}")
    elif _outbox_precedes_slot(dsn, slot):
        raise TopicsLostError(f"the outbox has rows that slot {slot} will never stream and no topic holds anything: run {REBUILD}")


def _outbox_precedes_slot(dsn: str, slot: str) -> bool:
    with replication.connect(dsn) as connection:
        return connection.execute(statements("relay")["outbox_precedes_slot"], {"slot": slot}).fetchone() == (True,)
