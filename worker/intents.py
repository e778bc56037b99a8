"""Intents as those who ask build them: ids, validation ahead of sending, and the record that goes out."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from worker.domain.aggregate import AGGREGATES, Aggregate
from worker.domain.fields import format_rfc3339
from worker.domain.ids import uid
from worker.domain.parsing import parse_command
from worker.domain.rejection import Rejection, RejectionCode, refuse_fields
from worker.envelope import CONTENT_TYPE, SPEC_VERSION, TYPE_PREFIX, Record, malformed, open_envelope
from worker.errors import WorkerError
from worker.receiving import Fit, judge
from worker.topics import intents_topic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.codec import Codec

_ANY: Final = timedelta()


@dataclass(frozen=True, slots=True)
class Intent:
    """What is asked of one aggregate. The same `intent_id` with the same content, `time` included, is the same intent."""

    name: str
    tenant_id: str
    aggregate_id: str
    command: object
    source: str
    intent_id: str = field(default_factory=lambda: str(uuid4()))
    time: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record that is ready to be sent."""

    topic: str
    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes]]


class IntentInvalidError(WorkerError):
    """The worker would refuse this intent whatever the state is, so it was not sent; `rejection` is what it would say."""

    def __init__(self, intent: Intent, rejection: Rejection) -> None:
        super().__init__(f"{intent.name} {intent.intent_id} was not sent: {rejection.code}: {rejection.message}")
        self.rejection = rejection


def intent_id_of(source: str, key: str) -> str:
    """An id that follows from the caller's own key for what is asked, so that asking again is the same intent.

    That takes the same `time` too: one that follows from the key as well, never the clock's. Neither part may hold a control character.
    """
    return str(uid("intent", source, key))


def aggregate_of(intent_name: str) -> Aggregate | None:
    """The aggregate that takes intents of this name (`RecordSLIWindowRequested`)."""
    return next((aggregate for aggregate in AGGREGATES.values() if intent_name in aggregate.intents), None)


def intent_from_fields(name: str, tenant_id: str, aggregate_id: str, fields: dict[str, object], **rest: Any) -> Intent | Rejection:  # noqa: ANN401
    """An intent whose fields come from JSON; a rejection names the fields that are wrong. Raises KeyError for an unknown name."""
    aggregate = aggregate_of(name)
    if aggregate is None:
        raise KeyError(name)
    command = parse_command(aggregate, name, fields, aggregate_id)
    if isinstance(command, Rejection):
        return command
    intent = Intent(name, tenant_id, aggregate_id, command, **rest)
    return malformed(intent.tenant_id, intent.intent_id) or intent


def to_outgoing(intent: Intent, codec: Codec) -> Outgoing:
    """CloudEvents headers and Avro payload, as docs/contract.md has them. Raises KeyError for an unknown name."""
    aggregate = aggregate_of(intent.name)
    if aggregate is None:
        raise KeyError(intent.name)
    subject = intent.aggregate_id.encode()
    headers = (
        ("ce_specversion", SPEC_VERSION),
        ("ce_id", intent.intent_id.encode()),
        ("ce_source", intent.source.encode()),
        ("ce_type", f"{TYPE_PREFIX}{intent.name}".encode()),
        ("ce_time", format_rfc3339(intent.time.astimezone(UTC)).encode()),
        ("ce_subject", subject),
        ("ce_tenantid", intent.tenant_id.encode()),
        ("content-type", CONTENT_TYPE),
    )
    return Outgoing(intents_topic(aggregate.name), subject, codec.encode(intent.name, intent.command), headers)


def to_valid_outgoing(intent: Intent, codec: Codec) -> Outgoing:
    """The record, judged by the worker's own checks of a record alone. Raises IntentInvalidError, and what asking a schema registry raises.

    All but check 6: whether a time is too early or too late is for the worker's clock to say.
    """
    aggregate = aggregate_of(intent.name)
    if aggregate is None:
        raise IntentInvalidError(intent, refuse_fields(RejectionCode.UNKNOWN_INTENT, {"ce_type": "is not an intent"}))
    if intent.time.tzinfo is None:
        raise IntentInvalidError(intent, refuse_fields(RejectionCode.SCHEMA_INVALID, {"ce_time": "must have a time zone"}))
    try:
        outgoing = to_outgoing(intent, codec)
    except WorkerError:  # the schema registry is away, or lacks the schema
        raise
    except Exception as error:
        raise IntentInvalidError(intent, _unencodable(intent, aggregate, error)) from error
    record = Record(outgoing.topic, 0, 0, 0, outgoing.key, outgoing.value, outgoing.headers)
    envelope = open_envelope(record)
    if isinstance(envelope, Rejection):
        raise IntentInvalidError(intent, envelope)
    verdict = judge(record, envelope, aggregate, codec, now=envelope.time, inbox_retention=_ANY)
    if not isinstance(verdict, Fit):
        raise IntentInvalidError(intent, verdict.rejection)
    return outgoing


def _unencodable(intent: Intent, aggregate: Aggregate, error: Exception) -> Rejection:
    """What is wrong with a command that no bytes can be made of: its fields by name, where the field types find them."""
    command = intent.command
    if is_dataclass(command):
        given = {part.name: getattr(command, part.name) for part in fields(command)}
        rejection = parse_command(aggregate, intent.name, given, intent.aggregate_id)
        if isinstance(rejection, Rejection):
            return rejection
    return Rejection(RejectionCode.SCHEMA_INVALID, f"can't be written as {intent.name}: {type(error).__name__}: {error}")
