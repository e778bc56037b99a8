"""A record on its way in: the checks of docs/contract.md on the record alone, 1 to 6, then 8 and 9 ahead of the inbox.

Check 4 is made elsewhere, by whoever has the keys; its outcome has its place in the order here.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from worker.codec import Codec, DecodeError, SchemaUnseenError
from worker.domain.outcome import Context
from worker.domain.parsing import parse_command
from worker.domain.rejection import Rejection, RejectionCode, refuse_fields
from worker.envelope import Envelope, Record, check_time, check_type, open_envelope, salvage
from worker.signing_keys import NOBODY_KNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime, timedelta

    from worker.domain.aggregate import Aggregate
    from worker.signing_keys import Asker

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
class Unread:
    """Nobody can read it before the schema registry is asked about this id."""

    schema_id: int


@dataclass(frozen=True, slots=True)
class Received:
    """A record, and what can be said of it alone. `intent` is (tenant, id), where both are well-formed; no well-formed tenant is ''.

    `doubt` is what check 4, or the bound actor, would have refused it for where signatures are no more than counted.
    """

    record: Record
    content_hash: bytes
    tenant_id: str
    intent: tuple[str, str] | None
    verdict: Refused | Unfit | Fit | Unread
    principal: str | None = None
    doubt: Rejection | None = None


def anybody(_: Record, __: Envelope) -> Asker:
    """Check 4 where signatures are off."""
    return NOBODY_KNOWN


def receive(
    record: Record,
    aggregate: Aggregate,
    codec: Codec,
    now: datetime,
    inbox_retention: timedelta,
    who_asks: Callable[[Record, Envelope], Asker] = anybody,
    *,
    only_count: bool = False,
) -> Received:
    """Never raises, whatever the record holds. `only_count` goes on where `who_asks` refuses."""
    envelope = open_envelope(record)
    if isinstance(envelope, Rejection):
        saved = salvage(record)
        intent = None if saved.tenant_id is None or saved.intent_id is None else (saved.tenant_id, saved.intent_id)
        return Received(record, content_hash(record), saved.tenant_id or "", intent, Refused(envelope))
    asker = who_asks(record, envelope)
    doubt = asker.refusal if only_count else None
    verdict: Refused | Unfit | Fit | Unread
    try:
        if asker.refusal is not None and not only_count:
            verdict = Refused(asker.refusal)
        else:
            verdict = judge(record, envelope, aggregate, codec, now, inbox_retention, asker.actor)
        if only_count and isinstance(verdict, Unfit) and verdict.rejection.code == RejectionCode.NOT_AUTHORISED:
            doubt = doubt or verdict.rejection
            verdict = judge(record, envelope, aggregate, codec, now, inbox_retention)
    except SchemaUnseenError as unseen:
        verdict = Unread(unseen.schema_id)
    return Received(record, content_hash(record), envelope.tenant_id, envelope.intent, verdict, asker.principal, doubt)


def judge(
    record: Record,
    envelope: Envelope,
    aggregate: Aggregate,
    codec: Codec,
    now: datetime,
    inbox_retention: timedelta,
    bound_actor: str | None = None,
) -> Refused | Unfit | Fit:
    """Checks 5, 6, 8 and 9; `bound_actor` is the only one that may ask, where that is not None.

    Raises SchemaUnseenError, if the codec does.
    """
    refused = check_type(envelope, aggregate.intents) or check_time(envelope, now, inbox_retention)
    if refused is not None:
        return Refused(refused)
    command = _read_command(record, envelope, aggregate, codec, bound_actor)
    if isinstance(command, Rejection):
        return Unfit(envelope, command)
    context = Context(envelope.tenant_id, envelope.subject, envelope.time)
    unfit = aggregate.check(command, context)
    return Fit(envelope, command, context) if unfit is None else Unfit(envelope, unfit)


def _read_command(record: Record, envelope: Envelope, aggregate: Aggregate, codec: Codec, bound_actor: str | None) -> Any | Rejection:  # noqa: ANN401 - any aggregate's
    try:
        fields = codec.decode(envelope.type, record.value or b"")
    except DecodeError as error:
        return refuse_fields(RejectionCode.SCHEMA_INVALID, {"value": str(error)})
    if bound_actor is not None and fields.get("actor", bound_actor) != bound_actor:  # some intents have no actor
        return refuse_fields(RejectionCode.NOT_AUTHORISED, {"actor": "must be the one that the key is bound to"})
    return parse_command(aggregate, envelope.type, fields, envelope.subject)


def content_hash(record: Record) -> bytes:
    """SHA-256 of what makes two records the same intent, each part after its length as 4 bytes big-endian."""
    values: Mapping[str, bytes | None] = dict(record.headers)
    digest = sha256()
    for part in (*(values.get(name) or b"" for name in _CONTENT_HEADERS), record.value or b""):
        digest.update(len(part).to_bytes(4, "big") + part)
    return digest.digest()
