"""What a service tells of itself, put together from its settings: metrics where it answers probes, spans where a receiver is named."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from worker.relay.relay import Observer
from worker.telemetry.telling import telling
from worker.telemetry.tracing import tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from worker.condition import Condition
    from worker.health import Scrape
    from worker.pipeline import Batch
    from worker.relay.relay import Group
    from worker.relay.status import RelayStatus
    from worker.settings import Settings
    from worker.signs import Signs

    BatchListeners = list[Callable[[Batch], None]]
    GroupListeners = list[Callable[[Group], None]]


@contextmanager
def told(settings: Settings, condition: Condition, signs: Signs) -> Iterator[tuple[Scrape | None, Callable[[Batch], None] | None]]:
    """Of a worker: what answers a scrape, and what hears of every batch."""
    listeners: BatchListeners = []
    scrape = None
    if settings.health_address is not None:
        from worker.postgres.scrape import partitions_ahead  # noqa: PLC0415 - for a scrape alone
        from worker.telemetry.worker_metrics import WorkerMetrics  # noqa: PLC0415 - a tenth of a second, and only for a scrape

        metrics = WorkerMetrics(
            state=lambda: condition.live().state,
            unsigned=signs.unsigned,
            backlog=condition.backlog,
            partitions_ahead=partial(partitions_ahead, settings.writer_dsn),
        )
        scrape = metrics.scrape
        listeners.append(metrics.tell)
    if settings.log_level == "debug":
        from worker.telemetry.batch_line import log_batch  # noqa: PLC0415

        listeners.append(log_batch)
    with tracing("sre-domain-worker") as spans:
        if spans is not None:
            listeners.append(spans.tell_batch)
        yield scrape, telling(*listeners)


@contextmanager
def observed(settings: Settings, status: RelayStatus) -> Iterator[tuple[Scrape | None, Observer | None]]:
    """Of a relay: what answers a scrape, and what hears of every group."""
    listeners: GroupListeners = []
    scrape = None
    if settings.health_address is not None:
        from worker.relay.slot_position import slot_position  # noqa: PLC0415 - for a scrape alone
        from worker.telemetry.relay_metrics import RelayMetrics  # noqa: PLC0415 - a tenth of a second, and only for a scrape

        metrics = RelayMetrics(status, partial(slot_position, settings.relay_dsn, settings.relay_slot))
        scrape = metrics.scrape
        listeners.append(metrics.tell)
    with tracing("sre-domain-relay") as spans:
        if spans is not None:
            listeners.append(spans.tell_group)
        tell = telling(*listeners)
        yield scrape, None if tell is None else Observer(tell, None if spans is None else spans.is_traced)
