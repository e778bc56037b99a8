"""Topics that were lost and made anew: what the slot will never stream again would be missing from them, and nobody would notice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from worker.errors import WorkerError
from worker.postgres.named_sql import statements
from worker.relay import replication
from worker.relay.published import partitions_of_topics, ranges, read
from worker.relay.replication import format_lsn
from worker.relay.watermark import REBUILD
from worker.topics import WATERMARK_TOPIC

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIMEOUT_SECONDS: Final = 20.0


class TopicsLostError(WorkerError):
    """The topics of facts, or that of the watermarks, do not hold what was published: going on would leave a hole or repeat facts."""


def refuse_lost_topics(config: Mapping[str, Any], dsn: str, slot: str, published_lsn: int, committed: Mapping[bytes, bytes]) -> None:
    """Raises TopicsLostError where every topic is empty and should not be, or has records that no watermark tells of.

    `committed` are the watermarks of every slot, or the one of this. One topic of several that is lost is not noticed. Raises
    KafkaException and psycopg.Error.
    """
    if published_lsn == 0 and committed:  # other slots' records are no wonder
        return
    ends = ranges(config, partitions_of_topics(config, _TIMEOUT_SECONDS), _TIMEOUT_SECONDS)
    if published_lsn > 0:
        if not ends:
            raise TopicsLostError(f"slot {slot} published up to {format_lsn(published_lsn)} and no topic holds anything: run {REBUILD}")
    # A first transaction that was aborted leaves offsets behind, too.
    elif next(read(config, ends, _TIMEOUT_SECONDS), None) is not None:
        raise TopicsLostError(f"there are records in the topics and {WATERMARK_TOPIC} does not say up to where: run {REBUILD}")
    elif _outbox_precedes_slot(dsn, slot):
        raise TopicsLostError(f"the outbox has rows that slot {slot} will never stream and no topic holds anything: run {REBUILD}")


def _outbox_precedes_slot(dsn: str, slot: str) -> bool:
    with replication.connect(dsn) as connection:
        return connection.execute(statements("relay")["outbox_precedes_slot"], {"slot": slot}).fetchone() == (True,)
