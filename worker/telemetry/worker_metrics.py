"""The worker's metrics; docs/metrics.md lists them."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import prometheus_client as prometheus
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from worker.domain.aggregate import AGGREGATES
from worker.domain.rejection import RejectionCode
from worker.pipeline import STAGES
from worker.telemetry.exposition import LATENCY_BOUNDS, PREFIX, Asked, State, gauge, gauges, new_registry, scrape
from worker.telemetry.histogram import WeightedHistogram
from worker.telemetry.outcomes import OUTCOMES, UNKNOWN, outcome_of, rows_of, type_of
from worker.topics import intents_topic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.core import Metric

    from worker.consumer_state import Backlog
    from worker.pipeline import Batch

_PREFIX: Final = f"{PREFIX}_worker"
_STATES: Final = ("waiting for Kafka", "starting", "active", "standing by", "waiting", "stopping")
_BATCH_BOUNDS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_STAGE_BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_KNOWN: Final = {intents_topic(aggregate.name): frozenset(aggregate.intents) for aggregate in AGGREGATES.values()}
_DOUBTS: Final = (
    RejectionCode.SIGNATURE_REQUIRED,
    RejectionCode.KEY_UNKNOWN,
    RejectionCode.KEY_REVOKED,
    RejectionCode.SIGNATURE_INVALID,
    RejectionCode.TENANT_MISMATCH,
    RejectionCode.NOT_AUTHORISED,
)


class WorkerMetrics:
    """`state` is what probes are told, `unsigned` counts by code; `backlog` and `partitions_ahead` ask Kafka and PostgreSQL, at a scrape.

    Every series is there from the start, so that the first event is an increase.
    """

    def __init__(
        self,
        *,
        state: Callable[[], str],
        unsigned: Mapping[str, int],
        backlog: Callable[[], Backlog],
        partitions_ahead: Callable[[], Mapping[str, int]],
    ) -> None:
        registry = self._registry = new_registry()
        intents = prometheus.Counter(
            f"{_PREFIX}_intents",
            "Records of the intent topics by what became of them; duplicate: it had its outcome before.",
            ["type", "outcome"],
            registry=registry,
        )
        types = [UNKNOWN, *(name for names in _KNOWN.values() for name in sorted(names))]
        self._intents = {(name, outcome): intents.labels(name, outcome) for name in types for outcome in OUTCOMES}
        rejections = prometheus.Counter(f"{_PREFIX}_rejections", "Rejected intents by code.", ["code"], registry=registry)
        self._rejections = {str(code): rejections.labels(str(code)) for code in RejectionCode}
        self._batch_size = prometheus.Histogram(
            f"{_PREFIX}_batch_size_intents", "Records in a batch, which is one transaction.", buckets=_BATCH_BOUNDS, registry=registry
        )
        stages = prometheus.Histogram(
            f"{_PREFIX}_batch_stage_duration_seconds",
            "What the stages of a saved batch took; save is with the commit.",
            ["stage"],
            buckets=_STAGE_BOUNDS,
            registry=registry,
        )
        self._stages = {stage: stages.labels(stage) for stage in STAGES}
        self._age = WeightedHistogram(
            f"{_PREFIX}_intent_to_outcome_duration_seconds",
            "From the broker's timestamp of an intent to the commit of its outcome; without duplicates.",
            LATENCY_BOUNDS,
        )
        registry.register(self._age)
        registry.register(_Unsigned(unsigned))
        registry.register(State(f"{_PREFIX}_state", "1 for what the worker does, as probes are told.", _STATES, state))
        asks = {"kafka": lambda: _backlog(backlog()), "postgresql": lambda: _partitions_ahead(partitions_ahead())}
        registry.register(Asked(f"{_PREFIX}_collector_success", asks))

    def scrape(self) -> tuple[str, bytes]:
        return scrape(self._registry)

    def tell(self, batch: Batch) -> None:
        """Count a batch that is saved: a few additions, whatever its size."""
        known, now_ms = _KNOWN[batch.topic], time.time() * 1000
        rows = rows_of(batch)
        pairs = Counter([(type_of(item, known), outcome_of(row)) for item, row in zip(batch.received, rows, strict=True)])
        for pair, count in pairs.items():
            self._intents[pair].inc(count)
        for code, count in Counter([row.code for row in batch.inbox_rows if row.code is not None]).items():
            self._rejections[code].inc(count)
        self._batch_size.observe(len(batch.received))
        for stage, seconds in batch.stage_seconds.items():
            self._stages[stage].observe(seconds)
        stamps = Counter([item.record.timestamp_ms for item, row in zip(batch.received, rows, strict=True) if row is not None])
        self._age.observe((max(0.0, now_ms - stamp) / 1000, count) for stamp, count in stamps.items())


class _Unsigned(Collector):
    def __init__(self, unsigned: Mapping[str, int]) -> None:
        self._unsigned = unsigned

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            f"{_PREFIX}_unsigned_intents",
            "Intents taken with SRE_SIGNATURES=warn that would be refused with require, by code.",
            labels=["code"],
        )
        for code in _DOUBTS:
            family.add_metric([str(code)], self._unsigned.get(str(code), 0))
        yield family


def _backlog(found: Backlog) -> list[Metric]:
    age = 0.0 if found.oldest_taken is None else max(0.0, time.time() - found.oldest_taken)
    return [
        gauges(
            f"{_PREFIX}_consumer_lag_records",
            "Records of this worker's partitions without an outcome yet.",
            "topic",
            {topic: found.records.get(topic, 0) for topic in _KNOWN},
        ),
        gauge(
            f"{_PREFIX}_oldest_unacknowledged_intent_age_seconds",
            "Age by the broker's timestamp of the oldest record that was fetched and is not acknowledged; 0 for none.",
            age,
        ),
    ]


def _partitions_ahead(found: Mapping[str, int]) -> list[Metric]:
    return [
        gauges(
            f"{_PREFIX}_table_partitions_ahead",
            "Partitions of inbox, a week each, and outbox, a day each, that begin later than now.",
            "table",
            found,
        )
    ]
