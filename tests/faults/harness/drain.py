"""After the last fault: until every intent is decided, every fact is published, and slot and lag are at their ends."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import psycopg
from confluent_kafka import KafkaException

from tests.faults.harness.samples import rows

if TYPE_CHECKING:
    from tests.faults.harness.cluster import Cluster
    from tests.faults.harness.samples import Offsets
    from tests.faults.harness.watcher import Watcher

_POLL_SECONDS: Final = 0.3
_OUTBOX: Final = "SELECT count(*) FROM outbox"
_NOW: Final = "SELECT pg_current_wal_flush_lsn()"
_CONFIRMED: Final = "SELECT pg_wal_lsn_diff(confirmed_flush_lsn, %s::pg_lsn) FROM pg_replication_slots WHERE slot_name = %s"


def drain(cluster: Cluster, offsets: Offsets, watcher: Watcher, seconds: float) -> list[str]:
    """What has not drained after `seconds`; empty once lag is 0, the outbox is published and seen, and the slot is confirmed so far."""
    deadline = time.monotonic() + seconds
    left = ["6: nothing could be asked"]
    while left and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        with suppress(psycopg.OperationalError, KafkaException):
            left = _left(cluster, offsets, watcher)
    return left


def _left(cluster: Cluster, offsets: Offsets, watcher: Watcher) -> list[str]:
    ends, committed = offsets.ends(), offsets.committed()
    lag = sum(max(0, end - committed[place]) for place, end in ends.items())
    if lag:
        return [f"6: lag is {lag}"]
    with psycopg.connect(cluster.settings.writer_dsn, connect_timeout=2, autocommit=True) as connection:
        ((outbox,),) = rows(connection, _OUTBOX)
        if watcher.trail.count < outbox:
            return [f"2: {outbox - watcher.trail.count} of {outbox} facts and rejections have not come"]
        ((now,),) = rows(connection, _NOW)
        deadline = time.monotonic() + 10
        behind = -1
        while behind < 0 and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            ((behind,),) = connection.execute(_CONFIRMED, [now, cluster.settings.relay_slot]).fetchall()
    return [f"slot: confirmed {-behind} bytes before the end"] if behind < 0 else []
