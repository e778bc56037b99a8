"""The relay's metrics; docs/metrics.md lists them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, get_args

import prometheus_client as prometheus
from prometheus_client.registry import Collector

from worker.relay.status import Phase
from worker.telemetry.exposition import LATENCY_BOUNDS, PREFIX, Asked, State, gauge, new_registry, scrape
from worker.telemetry.histogram import WeightedHistogram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.core import Metric

    from worker.relay.relay import Group
    from worker.relay.slot_position import SlotPosition
    from worker.relay.status import RelayStatus

_PREFIX: Final = f"{PREFIX}_relay"
_POSTGRES_EPOCH_SECONDS: Final = 946_684_800  # 2000-01-01 UTC
_MOST_SIGHTINGS: Final = 1_000


class RelayMetrics:
    """`slot_position` asks PostgreSQL, at a scrape; None where there is no slot."""

    def __init__(self, status: RelayStatus, slot_position: Callable[[], SlotPosition | None]) -> None:
        registry = self._registry = new_registry()
        self._groups = prometheus.Counter(f"{_PREFIX}_groups", "Kafka transactions with rows that were committed.", registry=registry)
        self._rows = prometheus.Counter(f"{_PREFIX}_rows", "Facts and rejections in them.", registry=registry)
        self._latency = WeightedHistogram(
            f"{_PREFIX}_outbox_to_fact_duration_seconds",
            "From a row's commit in PostgreSQL, by its clock, to its commit in Kafka.",
            LATENCY_BOUNDS,
        )
        registry.register(self._latency)
        registry.register(State(f"{_PREFIX}_state", "1 for what the relay does.", get_args(Phase), lambda: status.phase))
        registry.register(_Watermark(status))
        unconfirmed = Unconfirmed()
        registry.register(Asked(f"{_PREFIX}_collector_success", {"postgresql": lambda: _slot(slot_position(), unconfirmed)}))

    def scrape(self) -> tuple[str, bytes]:
        return scrape(self._registry)

    def tell(self, group: Group) -> None:
        now = time.time() - _POSTGRES_EPOCH_SECONDS
        self._groups.inc()
        self._rows.inc(group.rows)
        self._latency.observe((max(0.0, now - committed_us / 1e6), rows) for committed_us, rows in group.transactions)


class Unconfirmed:
    """For how long a slot has had something unconfirmed, at least: as exactly as it is looked at often."""

    def __init__(self) -> None:
        self._sightings: list[tuple[float, int]] = []  # when, and where the WAL ended; all but those that are confirmed

    def seconds(self, now: float, position: SlotPosition) -> float:
        """Since the first look whose end of the WAL is not confirmed by now. `now` is any clock that only rises."""
        seen = self._sightings
        if seen and position.current_lsn < seen[-1][1]:
            seen.clear()  # another history: a database that was restored
        seen.append((now, position.current_lsn))
        seen[:] = [sighting for sighting in seen if sighting[1] > position.confirmed_lsn]
        if len(seen) > _MOST_SIGHTINGS:
            del seen[1::2]
        return now - seen[0][0] if seen else 0.0


class _Watermark(Collector):
    def __init__(self, status: RelayStatus) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        lsn = self._status.published_lsn if self._status.phase == "active" else None
        yield gauge(f"{_PREFIX}_watermark_lsn", "How far the facts in Kafka reach: an LSN as a number; of an active relay.", lsn)


def _slot(position: SlotPosition | None, unconfirmed: Unconfirmed) -> list[Metric]:
    lag = None if position is None else position.current_lsn - position.confirmed_lsn
    seconds = None if position is None else unconfirmed.seconds(time.monotonic(), position)
    retained = None if position is None else position.current_lsn - position.restart_lsn
    safe = None if position is None else position.safe_wal_bytes
    return [
        gauge(f"{_PREFIX}_slot_lag_bytes", "WAL that the slot has not confirmed.", lag),
        gauge(f"{_PREFIX}_slot_lag_seconds", "For how long at least there has been such WAL, as scrapes have seen it.", seconds),
        gauge(f"{_PREFIX}_slot_retained_wal_bytes", "WAL that PostgreSQL keeps for the slot.", retained),
        gauge(f"{_PREFIX}_slot_safe_wal_bytes", "WAL until the slot may be lost; absent where nothing limits it.", safe),
    ]
