"""A dead letter: a rejection as it lies in its topic, and the record that was refused."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, cast

from worker.domain.fields import EPOCH
from worker.domain.ids import uid
from worker.envelope import TYPE_PREFIX, Record
from worker.messages import read_rejection

if TYPE_CHECKING:
    from datetime import datetime

    from confluent_kafka import Message

    from worker.codec import Codec
    from worker.domain.rejection import IntentRejected

_MILLISECOND = timedelta(milliseconds=1)
_LATEST_MS = 253_402_300_799_999  # the end of the year 9999


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """`tenant_id` and `intent_id` are None where the refused record had none well-formed; `time` is that of the rejection in its topic."""

    rejection_id: str
    tenant_id: str | None
    intent_id: str | None
    time: datetime
    partition: int
    offset: int
    rejection: IntentRejected

    @property
    def position(self) -> str:
        """Where the refused record lies: topic/partition/offset."""
        return f"{self.rejection.topic}/{self.rejection.partition}/{self.rejection.offset}"

    @property
    def type(self) -> str:
        """The intent's name without its namespace; empty where the record names none."""
        named = (header.value or b"" for header in self.rejection.headers if header.name == "ce_type")
        return next(named, b"").decode(errors="replace").removeprefix(TYPE_PREFIX)

    @property
    def used_up_id(self) -> bool:
        """Whether the rejection is that of an intent, whose id is spent, not that of a position (docs/contract.md, "Rejections")."""
        if self.tenant_id is None or self.intent_id is None:
            return False
        return self.rejection_id == str(uid("rejection", self.tenant_id, self.intent_id))

    @property
    def is_cut(self) -> bool:
        """Whether the rejection holds only the beginning of the value."""
        return len(self.rejection.value or b"") != self.rejection.value_size

    def original(self) -> Record:
        """The refused record as the rejection holds it, byte for byte up to its cuts."""
        refused = self.rejection
        headers = [(header.name, header.value) for header in refused.headers]
        milliseconds = (refused.broker_timestamp - EPOCH) // _MILLISECOND
        return Record(refused.topic, refused.partition, refused.offset, milliseconds, refused.key, refused.value, headers)

    def goes_by(self, name: str) -> bool:
        """Whether the name is the intent's id, the rejection's, or the refused record's position, also as the inbox writes it."""
        return name in (self.intent_id, self.rejection_id, self.position, f"{self.position}/{self.original().timestamp_ms}")


def header_texts(message: Message) -> dict[str, str]:
    """The rejection's own headers."""
    headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    return {name: value.decode(errors="replace") for name, value in headers if value is not None}


def broker_time(message: Message) -> datetime:
    return EPOCH + timedelta(milliseconds=max(0, min(message.timestamp()[1], _LATEST_MS)))


def read_letter(message: Message, codec: Codec) -> Letter:
    """Raises ValueError where the message is no rejection that this version can read."""
    headers = header_texts(message)
    if "ce_id" not in headers:
        raise ValueError("the header ce_id is missing")
    return Letter(
        rejection_id=headers["ce_id"],
        tenant_id=headers.get("ce_tenantid"),
        intent_id=headers.get("ce_causationid"),
        time=broker_time(message),
        partition=int(message.partition() or 0),
        offset=int(message.offset() or 0),
        rejection=read_rejection(message, codec),
    )
