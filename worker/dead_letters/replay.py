"""Which record sends a refused one again, and under which id, so that sending it twice is still one intent.

Where the rejection used up no id, the record goes out as it was. Where it did, the same id would be recognised as decided and nothing
would come of it, so the record gets another: one that follows from the old id and the content, with the old intent as its cause.

A record that keeps its id and was signed goes out with its own signature. Any other asks in the name of whoever replays it, with their key.
But never one that was refused for who asked: nobody's key makes that good.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, cast

from worker.domain.aggregate import AGGREGATES
from worker.domain.fields import format_rfc3339
from worker.domain.ids import uid
from worker.domain.rejection import Rejection, RejectionCode
from worker.envelope import Envelope, Record, open_envelope
from worker.intents import Outgoing
from worker.receiving import Fit, content_hash, judge
from worker.signatures import is_signed, without_signature
from worker.topics import intents_topic

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from worker.codec import Codec
    from worker.dead_letters.letters import Letter
    from worker.envelope import Header
    from worker.signatures import Signer

Intent = tuple[str, str]
"""Tenant and intent id."""

_AGGREGATES: Final = {intents_topic(name): aggregate for name, aggregate in AGGREGATES.items()}
_TIME_CODES: Final = (RejectionCode.TIMESTAMP_IN_FUTURE, RejectionCode.INTENT_EXPIRED)
ASKER_CODES: Final = (
    RejectionCode.SIGNATURE_REQUIRED,
    RejectionCode.SIGNATURE_INVALID,
    RejectionCode.KEY_UNKNOWN,
    RejectionCode.KEY_REVOKED,
    RejectionCode.TENANT_MISMATCH,
    RejectionCode.NOT_AUTHORISED,
)
_RETENTION: Final = timedelta(days=30)  # the longest that an inbox remembers


@dataclass(frozen=True, slots=True)
class Resend:
    """The record to send; `intent_id` is the one that it carries, new or that of the letter."""

    letter: Letter
    tenant_id: str
    intent_id: str
    content: bytes
    outgoing: Outgoing

    @property
    def is_renamed(self) -> bool:
        return self.intent_id != self.letter.intent_id


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Nothing is to be sent: `reason` in a few words; `is_fault` where it means that the intent stays undone."""

    letter: Letter
    reason: str
    is_fault: bool = True


def replays(
    letters: Iterable[Letter], refused: Collection[Intent], codec: Codec, now: datetime, signer: Signer | None = None, *, restamp: bool
) -> Iterator[Resend | LeftOut]:
    """What becomes of each letter. `refused` are the intents of all letters: one whose replay is among them gives way to that."""
    sent: set[tuple[str, str, bytes]] = set()
    for letter in letters:
        replay = replay_of(letter, codec, now, signer, restamp=restamp)
        if isinstance(replay, Resend):
            same = replay.tenant_id, replay.intent_id, replay.content
            if same in sent:
                replay = LeftOut(letter, "the same intent as another one here", is_fault=False)
            elif replay.is_renamed and same[:2] in refused:
                replay = LeftOut(letter, "replayed before and refused again; that replay is here too", is_fault=False)
            else:
                sent.add(same)
        yield replay


def replay_of(letter: Letter, codec: Codec, now: datetime, signer: Signer | None = None, *, restamp: bool = False) -> Resend | LeftOut:
    """Judged by the worker's own checks of a record alone, so that what would be refused whatever the state is stays where it is.

    What keys and signatures come to is the worker's to say. `restamp` gives a record whose ce_time was refused the time at which Kafka
    took it.
    """
    aggregate = _AGGREGATES.get(letter.rejection.topic)
    if aggregate is None:
        return LeftOut(letter, "not from an intent topic")
    if letter.is_cut:
        return LeftOut(letter, f"would be refused again: {RejectionCode.MESSAGE_TOO_LARGE} (the rejection holds only its beginning)")
    record = letter.original()
    envelope = open_envelope(record)
    if isinstance(envelope, Rejection):
        return _refused_again(letter, envelope)
    asker_was_refused = letter.rejection.code in ASKER_CODES
    time_was_refused = letter.rejection.code in _TIME_CODES and not letter.used_up_id
    if letter.used_up_id or letter.rejection.code == RejectionCode.IDEMPOTENCY_KEY_REUSED or (restamp and time_was_refused):
        if asker_was_refused:
            return LeftOut(letter, f"refused for who asked ({letter.rejection.code}): its producer has to ask again")
        if signer is None and is_signed(record.headers):
            why = "signed, and a new id or time would break the signature: its producer has to ask again, or you with SRE_SIGNING_KEY_FILE"
            return LeftOut(letter, why)
        time = format_rfc3339(letter.rejection.broker_timestamp) if restamp and time_was_refused else None
        record = renamed(record._replace(headers=without_signature(record.headers)), envelope, time)
        envelope = open_envelope(record)
        if isinstance(envelope, Rejection):
            return _refused_again(letter, envelope)
    verdict = judge(record, envelope, aggregate, codec, now, _RETENTION)
    if not isinstance(verdict, Fit):
        return _refused_again(letter, verdict.rejection)
    headers = cast("Sequence[tuple[str, bytes]]", record.headers)  # a header that is null goes out as one
    if signer is not None and not asker_was_refused and not is_signed(headers):
        headers = signer.sign(headers, record.value or b"")
    outgoing = Outgoing(record.topic, record.key or b"", record.value or b"", headers)
    return Resend(letter, envelope.tenant_id, envelope.intent_id, content_hash(record), outgoing)


def renamed(record: Record, envelope: Envelope, time: str | None = None) -> Record:
    """The record under the id of its replay, caused by the old intent; its correlation, all other headers, key and value stay."""
    old = envelope.intent_id
    changes = {"ce_id": replay_id(envelope, record).encode(), "ce_causationid": old.encode()}
    if time is not None:
        changes["ce_time"] = time.encode()
    if envelope.trace.correlation_id is None:
        changes["ce_correlationid"] = old.encode()
    return record._replace(headers=with_headers(record.headers, changes))


def replay_id(envelope: Envelope, record: Record) -> str:
    """Of the old id and content, not of the rejection: two records that are one intent stay one, however often they were refused."""
    return str(uid("replay", envelope.tenant_id, envelope.intent_id, content_hash(record).hex()))


def with_headers(headers: Sequence[Header], changes: Mapping[str, bytes]) -> list[Header]:
    """Each change once: in the place of the first header of its name, else at the end. All other headers as they are."""
    left = dict(changes)
    changed: list[Header] = []
    for name, value in headers:
        if name not in changes:
            changed.append((name, value))
        elif name in left:
            changed.append((name, left.pop(name)))
    return [*changed, *left.items()]


def _refused_again(letter: Letter, rejection: Rejection) -> LeftOut:
    return LeftOut(letter, f"would be refused again: {rejection.code}")
