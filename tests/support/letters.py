"""Dead letters made from records, as the worker would make them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from tests.support.records import CODEC
from worker.dead_letters.letters import Letter
from worker.domain.rejection import IntentRejected, Rejection, RejectionCode
from worker.emission import Emitter, rejection_id_by_intent, rejection_id_by_position
from worker.envelope import Envelope, open_envelope
from worker.topics import REJECTED_TOPIC

if TYPE_CHECKING:
    from worker.envelope import Record
    from worker.postgres.outbox import OutboxRow

REJECTED = TypeAdapter(IntentRejected)


def letter_of(record: Record, code: RejectionCode, *, used_up: bool = False) -> Letter:
    """The worker's own rejection of the record; `used_up` where it is that of the intent, not that of the position."""
    row, _ = rejection_of(record, code, used_up=used_up)
    return Letter(
        rejection_id=str(row.id),
        tenant_id=row.tenant_id or None,
        intent_id=row.causation_id,
        time=datetime(2026, 3, 9, 12, tzinfo=UTC),
        partition=row.partition,
        offset=record.offset,
        rejection=REJECTED.validate_python(CODEC.decode("IntentRejected", row.payload)),
    )


def rejection_of(record: Record, code: RejectionCode, *, used_up: bool = False) -> tuple[OutboxRow, list[tuple[str, str | bytes | None]]]:
    """The outbox row, and the headers that a relay gives it that matter here."""
    rejection_id = rejection_id_by_position(record)
    if used_up:
        envelope = open_envelope(record)
        assert isinstance(envelope, Envelope)
        rejection_id = rejection_id_by_intent(envelope)
    row = Emitter(CODEC, {REJECTED_TOPIC: 12}).rejection_row(record, Rejection(code, "no"), rejection_id, None)
    texts = {"ce_id": str(row.id), "ce_type": row.type, "ce_tenantid": row.tenant_id or None, "ce_causationid": row.causation_id}
    return row, [(name, text) for name, text in texts.items() if text is not None]
