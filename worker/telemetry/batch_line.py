"""A line a batch, for who looks closely: SRE_LOG_LEVEL=debug."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Final

from worker.telemetry.outcomes import outcome_of, rows_of
from worker.trace_context import about

if TYPE_CHECKING:
    from worker.pipeline import Batch

_LOG = logging.getLogger(__name__)
_IDS: Final = ("intent_id", "tenant_id", "trace_id")


def log_batch(batch: Batch) -> None:
    """With the ids of the intent where it is one, else of all."""
    outcomes = Counter(map(outcome_of, rows_of(batch)))
    milliseconds = sum(batch.stage_seconds.values()) * 1000
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    found = [about(item.record) for item in batch.received]
    fields: dict[str, object] = {**found[0]} if len(found) == 1 else {f"{name}s": [one.get(name) for one in found] for name in _IDS}
    _LOG.debug("%s: %d in %.1f ms: %s", batch.topic, len(batch.received), milliseconds, told, extra=fields)
