"""What must hold of every record, whatever it holds: one verdict, a code of the contract, a rejection that PostgreSQL and Kafka take."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from tests.support.pipelines import PARTITIONS
from tests.support.records import CODEC, NOW
from worker.domain.aggregate import AGGREGATES
from worker.domain.rejection import IntentRejected, Rejection, RejectionCode
from worker.emission import Emitter, rejection_id_by_intent, rejection_id_by_position
from worker.receiving import Fit, Refused, Unfit, Unread, receive

if TYPE_CHECKING:
    from worker.envelope import Record
    from worker.postgres.outbox import OutboxRow

MAX_PAYLOAD = 2_000_000
"""What the table outbox takes."""

MAX_RECORD = 2 * 1024 * 1024
"""What the topic of rejections takes, headers and key too."""

MAX_RECEIVED = 1024 * 1024
"""What an intent topic takes, as far as nothing is compressed."""

RETENTION = timedelta(days=30)
_EMITTER = Emitter(CODEC, PARTITIONS)
_REJECTED = TypeAdapter(IntentRejected)


def verdict_of(record: Record) -> Refused | Unfit | Fit:
    """The worker's, once it is known that whatever it says can be written and published."""
    aggregate = AGGREGATES[record.topic.split(".")[1]]
    verdict = receive(record, aggregate, CODEC, NOW, RETENTION).verdict
    if isinstance(verdict, Fit):
        assert type(verdict.command).__name__ == verdict.envelope.type.removesuffix("Requested")
        return verdict
    assert not isinstance(verdict, Unread), "no registry is set"
    assert isinstance(verdict.rejection, Rejection)
    assert verdict.rejection.code in RejectionCode
    assert_publishable(record, verdict)
    return verdict


def assert_publishable(record: Record, verdict: Refused | Unfit) -> None:
    rejection_id = rejection_id_by_position(record) if isinstance(verdict, Refused) else rejection_id_by_intent(verdict.envelope)
    row = _EMITTER.rejection_row(record, verdict.rejection, rejection_id, None)
    for value in row:
        assert not isinstance(value, str) or storable(value), value
    assert len(row.payload) <= MAX_PAYLOAD
    assert size_of(row) <= MAX_RECORD
    read_back = _REJECTED.validate_python(CODEC.decode("IntentRejected", row.payload))
    assert (read_back.code, read_back.offset) == (verdict.rejection.code, record.offset)
    if len(record.value or b"") <= MAX_RECEIVED:
        assert read_back.value == record.value


def storable(text: str) -> bool:
    """Whether PostgreSQL can hold it, and Kafka."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def size_of(row: OutboxRow) -> int:
    """About what the row has as a Kafka record."""
    return len(row.payload) + len(row.key or b"") + sum(len(value.encode()) + 40 for value in row if isinstance(value, str))
