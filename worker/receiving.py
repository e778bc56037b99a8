"""A record on its way in: the checks of docs/contract.md that need no database, 1 to 6, then 8 and 9 ahead of the inbox."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from worker.codec import Codec, DecodeError
from worker.domain.outcome import Context
from worker.domain.parsing import parse_command
from worker.domain.rejection import Rejection, RejectionCode, refuse_fields
from worker.envelope import Envelope, Record, check_time, check_type, open_envelope, salvage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from worker.domain.aggregate import Aggregate

_CONTENT_HEADERS: Final = ("ce_source", "ce_type", "ce_time", "ce_subject", "content-type")


@dataclass(frozen=True, slots=True)
class Refused:
    """By checks 1 to 6, which use up no id."""

    rejection: Rejection


@dataclass(frozen=True, slots=True)
class Unfit:
    """By checks 8 and 9, which use the id up, and count only where it is unused."""

    envelope: Envelope
    rejection: Rejection


@dataclass(frozen=True, slots=True)
class Fit:
    """To be decided on the stored state; the command is one of the aggregate's."""

    envelope: Envelope
    command: Any
    context: Context


@dataclass(frozen=True, slots=True)
class Received:
    """A record, and what can be said of it alone. `intent` is (tenant, id), where both are well-formed."""

    record: Record
    content_hash: bytes
    intent: tuple[str, str] | None
    verdict: Refused | Unfit | Fit


def receive(record: Record, aggregate: Aggregate, codec: Codec, now: datetime, inbox_retention: timedelta) -> Received:
    """Never raises, whatever the record holds."""
    envelope = open_envelope(record)
    if isinstance(envelope, Rejection):
        saved = salvage(record)
        intent = None if saved.tenant_id is None or saved.intent_id is None else (saved.tenant_id, saved.intent_id)
        return Received(record, content_hash(record), intent, Refused(envelope))
    return Received(record, content_hash(record), envelope.intent, judge(record, envelope, aggregate, codec, now, inbox_retention))


def judge(
    record: Record, envelope: Envelope, aggregate: Aggregate, codec: Codec, now: datetime, inbox_retention: timedelta
) -> Refused | Unfit | Fit:
    refused = check_type(envelope, aggregate.intents) or check_time(envelope, now, inbox_retention)
    if refused is not None:
        return Refused(refused)
    command = _read_command(record, envelope, aggregate, codec)
    if isinstance(command, Rejection):
        return Unfit(envelope, command)
    context = Context(envelope.tenant_id, envelope.subject, envelope.time)
    unfit = aggregate.check(command, context)
    return Fit(envelope, command, context) if unfit is None else Unfit(envelope, unfit)


def _read_command(record: Record, envelope: Envelope, aggregate: Aggregate, codec: Codec) -> Any | Rejection:  # noqa: ANN401
    try:
        fields = codec.decode(envelope.type, record.value or b"")
    except DecodeError as error:
        return refuse_fields(RejectionCode.SCHEMA_INVALID, {"value": str(error)})
    return parse_command(aggregate, envelope.type, fields, envelope.subject)


def content_hash(record: Record) -> bytes:
    """SHA-256 of what makes two records the same intent, each part after its length as 4 bytes big-endian."""
    values: Mapping[str, bytes | None] = dict(record.headers)
    digest = sha256()
    for part in (*(values.get(name) or b"" for name in _CONTENT_HEADERS), record.value or b""):
        digest.update(len(part).to_bytes(4, "big") + part)
    return digest.digest()
