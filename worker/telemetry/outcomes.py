"""What became of each record of a batch, in words that are bounded whatever the record holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from worker.envelope import TYPE_PREFIX
from worker.receiving import Refused, Unread

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from worker.pipeline import Batch
    from worker.postgres.inbox import InboxRow
    from worker.receiving import Received

UNKNOWN: Final = "unknown"
DUPLICATE: Final = "duplicate"
ACCEPTED: Final = "accepted"
OUTCOMES: Final = (ACCEPTED, "no_change", "rejected", DUPLICATE)


def rows_of(batch: Batch) -> Sequence[InboxRow | None]:
    """For each record its row; None for one whose outcome is older."""
    if len(batch.inbox_rows) == len(batch.received):
        return batch.inbox_rows
    rows: list[InboxRow | None] = []
    left = iter(batch.inbox_rows)
    row = next(left, None)
    for item in batch.received:
        if row is not None and (row.partition, row.offset) == item.record[1:3]:
            rows.append(row)
            row = next(left, None)
        else:
            rows.append(None)
    return rows


def outcome_of(row: InboxRow | None) -> str:
    if row is None:
        return DUPLICATE
    return ACCEPTED if row.outcome == "facts" else row.outcome


def type_of(item: Received, known: Collection[str]) -> str:
    """The intent's name on the wire, where it is one of the topic's: whoever may write there can claim any type."""
    verdict = item.verdict
    name = _claimed(item) if isinstance(verdict, Refused | Unread) else verdict.envelope.type
    return name if name in known else UNKNOWN


def _claimed(item: Received) -> str:
    value = next((value for name, value in item.record.headers if name == "ce_type"), None)
    text = "" if value is None else value.decode("ascii", "replace")
    return text.removeprefix(TYPE_PREFIX) if text.startswith(TYPE_PREFIX) else UNKNOWN
