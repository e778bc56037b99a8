"""`sre-domain relay hand-over`: a slot for another reader of the outbox, Debezium, that begins exactly where the facts in Kafka end.

The relay's own slot is dropped first: without it no relay publishes beside the other, and how far the facts reach can't change any more.
Killed in between, there is no slot that anybody could go on from, and a rebuild makes the relay's anew.
"""

from __future__ import annotations

import re
from contextlib import closing
from threading import Event
from typing import TYPE_CHECKING, Any, Final

from worker.errors import WorkerError
from worker.kafka_config import librdkafka_config
from worker.postgres.named_sql import statements
from worker.relay.hanging import end_hanging
from worker.relay.lost_topics import topic_ids
from worker.relay.published import once_led
from worker.relay.publisher import Publisher
from worker.relay.rebuild import drop_slot, refuse_while_streaming, slot_of
from worker.relay.replication import connect, format_lsn, identity_of, parse_lsn
from worker.relay.slot import keep_slot
from worker.relay.status import RelayStatus
from worker.relay.survey import STALL_SECONDS
from worker.relay.waiting import Waiting
from worker.relay.watermark import REBUILD, Watermark, encode, key_of, published_up_to, read_committed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.settings import Settings

_SLOT_NAME: Final = re.compile("[a-z0-9_]{1,63}")


class NoSlotError(WorkerError):
    """The relay has no slot to hand over; nothing was changed."""


class SuccessorError(WorkerError):
    """No slot of the name that was given can be made; nothing was changed."""


def hand_over(settings: Settings, successor: str) -> int:
    """Make the slot `successor`, which streams what is not published yet and nothing else, and drop the relay's. Gives its LSN.

    Raises the errors above, StreamingError, WatermarkError where a rebuild has to come first, psycopg.Error and KafkaException.
    """
    dsn, slot, timeout_seconds = settings.relay_dsn, settings.relay_slot, settings.relay_transaction_timeout_seconds
    kafka = librdkafka_config(settings) | {"log_level": 0}
    identity = identity_of(dsn)
    key = key_of(identity, slot)
    found = slot_of(dsn, slot)
    if found is None:
        raise NoSlotError(f"there is no slot {slot} to hand over: run {REBUILD}")
    refuse_while_streaming(found, slot)
    if not _SLOT_NAME.fullmatch(successor):
        raise SuccessorError("a slot's name has 1 to 63 lowercase letters, digits and underscores")
    if slot_of(dsn, successor) is not None:
        raise SuccessorError(f"there is a slot {successor} already: drop it where nobody needs it, or name another")
    _published_lsn(settings, kafka, key)  # raises before anything is changed
    sql = statements("hand_over")
    with (
        closing(Waiting(Event(), RelayStatus())) as waiting,
        closing(Publisher(kafka, slot, timeout_seconds, waiting)) as publisher,
        connect(dsn) as connection,
    ):
        temporary_slot = f"sre_hand_over_{connection.info.backend_pid}"
        connection.execute(sql["copy_for_now"], {"slot": slot, "temporary_slot": temporary_slot})
        drop_slot(dsn, slot)
        # A relay that had the slot until now has its last transaction ended here, and can begin none.
        publisher.fence()
        end_hanging(kafka, publisher, waiting, key, identity.timeline)
        published_lsn = _published_lsn(settings, kafka, key)
        # A rebuild would publish beside the successor; it refuses as long as this slot is there.
        publisher.commit(key, encode(Watermark(identity.timeline, published_lsn, topic_ids(kafka), handed_to=successor)))
        row = connection.execute(sql["advance"], {"temporary_slot": temporary_slot, "published": format_lsn(published_lsn)}).fetchone()
        keep_slot(connection, temporary_slot, successor)
    return parse_lsn(row[0]) if row else 0


def _published_lsn(settings: Settings, kafka: Mapping[str, Any], key: bytes) -> int:
    committed = once_led(lambda: read_committed(kafka, key, STALL_SECONDS))
    return published_up_to(committed, identity_of(settings.relay_dsn), settings.relay_slot)
