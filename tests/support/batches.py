"""Batches as the pipeline tells of them, without a database: each record with the row of its outcome, or none."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from tests.support.records import CODEC, NOW
from worker.domain.aggregate import AGGREGATES
from worker.pipeline import Batch
from worker.postgres.inbox import InboxRow, intent_key
from worker.receiving import receive

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.envelope import Record

STAGE_SECONDS = {"receive": 0.001, "find": 0.002, "decide": 0.003, "save": 0.004}


def batch_of(
    decided: Sequence[tuple[Record, str | None]], topic: str = "sre.slo.intents.v1", stages: Mapping[str, float] = STAGE_SECONDS
) -> Batch:
    """`facts`, `no_change`, a code for a record that is rejected, None for one whose outcome is older."""
    aggregate = AGGREGATES[topic.split(".")[1]]
    received = [receive(record, aggregate, CODEC, NOW, timedelta(days=30)) for record, _ in decided]
    rows = [_row(record, outcome) for record, outcome in decided if outcome is not None]
    return Batch(topic, received, rows, stages)


def _row(record: Record, outcome: str) -> InboxRow:
    said, code = ("rejected", outcome) if outcome.isupper() else (outcome, None)
    return InboxRow("acme", intent_key("acme", "any"), "any", NOW, b"", record.partition, record.offset, said, code, "{}")
