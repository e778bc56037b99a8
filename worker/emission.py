"""Outcomes as outbox rows: a fact under the key tenant/id/version, a rejection with the record as it was received."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from worker.domain.fields import EPOCH, format_rfc3339
from worker.domain.ids import uid
from worker.domain.rejection import IntentRejected, RecordHeader
from worker.envelope import TYPE_PREFIX, Envelope, Record, salvage
from worker.partitioner import partition_of
from worker.postgres.outbox import OutboxRow
from worker.topics import REJECTED_TOPIC, facts_topic

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from uuid import UUID

    from worker.codec import Codec
    from worker.domain.rejection import Rejection
    from worker.postgres.storage import Subject

_MAX_KEY_BYTES: Final = 64 * 1024
_MAX_HEADERS_BYTES: Final = 256 * 1024
_MAX_HEADERS: Final = 16_384  # empty ones have no bytes to count, and a rejection has to fit the outbox
_MAX_VALUE_BYTES: Final = 1024 * 1024
_CUT_VALUE_BYTES: Final = 256 * 1024
_LATEST_MS: Final = 253_402_300_799_999  # the end of the year 9999


@dataclass(frozen=True, slots=True)
class Emitter:
    """What rows need to know of the bus: the codec, and how many partitions each topic has."""

    codec: Codec
    partitions: Mapping[str, int]

    def fact_row(
        self,
        subject: Subject,
        envelope: Envelope,
        fact: Any,  # noqa: ANN401 - any aggregate's
        version: int,
        principal: str | None,
    ) -> OutboxRow:
        aggregate, tenant_id, aggregate_id = subject
        name, topic = type(fact).__name__, facts_topic(aggregate)
        aggregate_key = f"{tenant_id}/{aggregate_id}"
        return OutboxRow(
            id=uid("fact", tenant_id, aggregate, aggregate_id, str(version)),
            aggregatetype=aggregate,
            aggregateid=aggregate_id,
            type=TYPE_PREFIX + name,
            payload=self.codec.encode(name, fact),
            topic=topic,
            key=f"{aggregate_key}/{version}".encode(),
            partition=partition_of(aggregate_key.encode(), self.partitions[topic]),
            tenant_id=tenant_id,
            aggregate_version=version,
            ce_time=format_rfc3339(envelope.time),
            subject=aggregate_id,
            correlation_id=envelope.trace.correlation_id or envelope.intent_id,
            causation_id=envelope.intent_id,
            traceparent=envelope.trace.traceparent,
            tracestate=envelope.trace.tracestate,
            principal=principal,
        )

    def rejection_row(self, record: Record, rejection: Rejection, rejection_id: UUID, principal: str | None) -> OutboxRow:
        saved = salvage(record)
        return OutboxRow(
            id=rejection_id,
            aggregatetype="intent",
            aggregateid=str(rejection_id),
            type=f"{TYPE_PREFIX}IntentRejected",
            payload=self.codec.encode("IntentRejected", _rejected(record, rejection)),
            topic=REJECTED_TOPIC,
            key=record.key and record.key[:_MAX_KEY_BYTES],
            partition=partition_of(record.key, self.partitions[REJECTED_TOPIC]),
            tenant_id=saved.tenant_id or "",
            aggregate_version=None,
            ce_time=format_rfc3339(broker_time(record)),
            subject=None if saved.subject is None or "\x00" in saved.subject else saved.subject,  # PostgreSQL's text has no NUL
            correlation_id=saved.trace.correlation_id or saved.intent_id,
            causation_id=saved.intent_id,
            traceparent=saved.trace.traceparent,
            tracestate=saved.trace.tracestate,
            principal=principal,
        )


def position_of(record: Record) -> str:
    """The id of a record that used up none: where it lies."""
    return f"{record.topic}/{record.partition}/{record.offset}/{record.timestamp_ms}"


def rejection_id_by_position(record: Record) -> UUID:
    return uid("rejection", record.topic, str(record.partition), str(record.offset), str(record.timestamp_ms))


def rejection_id_by_intent(envelope: Envelope) -> UUID:
    return uid("rejection", envelope.tenant_id, envelope.intent_id)


def broker_time(record: Record) -> datetime:
    return EPOCH + timedelta(milliseconds=max(0, min(record.timestamp_ms, _LATEST_MS)))


def _rejected(record: Record, rejection: Rejection) -> IntentRejected:
    value = record.value
    return IntentRejected(
        code=rejection.code.value,
        message=rejection.message,
        violations=rejection.violations,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        broker_timestamp=broker_time(record),
        key=record.key and record.key[:_MAX_KEY_BYTES],
        headers=tuple(_first_headers(record)),
        value=value if value is None or len(value) <= _MAX_VALUE_BYTES else value[:_CUT_VALUE_BYTES],
        value_size=len(value or b""),
        value_sha256=sha256(value or b"").hexdigest(),
    )


def _first_headers(record: Record) -> Iterator[RecordHeader]:
    size = 0
    for name, value in record.headers[:_MAX_HEADERS]:
        size += len(name.encode()) + len(value or b"")
        if size > _MAX_HEADERS_BYTES:
            return
        yield RecordHeader(name=name, value=value)
