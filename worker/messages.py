"""Facts and rejections off the bus: typed, and as JSON for people (decimals as strings, times as RFC 3339)."""

from __future__ import annotations

import base64
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic import TypeAdapter, ValidationError

from worker.domain.aggregate import AGGREGATES
from worker.domain.fields import format_rfc3339
from worker.domain.rejection import IntentRejected
from worker.envelope import TYPE_PREFIX

if TYPE_CHECKING:
    from confluent_kafka import Message

    from worker.codec import Codec

_REJECTED = TypeAdapter(IntentRejected)
_REQUIRED: Final = (
    "ce_id",
    "ce_type",
    "ce_time",
    "ce_tenantid",
    "ce_causationid",
    "ce_aggregatetype",
    "ce_aggregateid",
    "ce_aggregateversion",
)


@dataclass(frozen=True, slots=True)
class UnknownFact:
    """A fact of a type, or with a value, that came after this version: to be passed over, with its version kept."""

    name: str


@dataclass(frozen=True, slots=True)
class ReceivedFact:
    """A fact as it was read: whose it is, its version, the intent it came of, the fact itself, and where it lies."""

    fact_id: str
    tenant_id: str
    aggregate: str
    aggregate_id: str
    version: int
    time: str
    causation_id: str
    fact: Any
    topic: str
    partition: int
    offset: int


def read_fact(message: Message, codec: Codec) -> ReceivedFact:
    """Raises ValueError where the message is not a fact that this version knows."""
    received = read_any_fact(message, codec)
    if isinstance(received.fact, UnknownFact):
        raise ValueError(f"{received.aggregate} {received.fact.name} is not a fact that this version knows")  # noqa: TRY004
    return received


def read_any_fact(message: Message, codec: Codec) -> ReceivedFact:
    """A fact, or an UnknownFact in its place. Raises ValueError where the message is neither."""
    headers = _headers(message)
    missing = [name for name in _REQUIRED if name not in headers]
    if missing:
        raise ValueError(f"the header {missing[0]} is missing")
    return ReceivedFact(
        headers["ce_id"],
        headers["ce_tenantid"],
        headers["ce_aggregatetype"],
        headers["ce_aggregateid"],
        int(headers["ce_aggregateversion"]),
        headers["ce_time"],
        headers["ce_causationid"],
        _fact(headers["ce_aggregatetype"], headers["ce_type"].removeprefix(TYPE_PREFIX), message.value() or b"", codec),
        str(message.topic()),
        int(message.partition() or 0),
        int(message.offset() or 0),
    )


def _fact(aggregate: str, name: str, value: bytes, codec: Codec) -> Any:  # noqa: ANN401 - any aggregate's
    known = AGGREGATES[aggregate].facts if aggregate in AGGREGATES else {}
    if name not in known:
        return UnknownFact(name)
    fields = codec.decode(name, value)
    try:
        return known[name].validate_python(fields)
    except ValidationError:  # all bytes are those of a released schema, so the value of a field is a later one
        return UnknownFact(name)


def read_rejection(message: Message, codec: Codec) -> IntentRejected:
    return _REJECTED.validate_python(codec.decode("IntentRejected", message.value() or b""))


def fact_as_json(message: Message, codec: Codec) -> dict[str, object]:
    received = read_fact(message, codec)
    return {
        "topic": received.topic,
        "partition": received.partition,
        "offset": received.offset,
        "id": received.fact_id,
        "type": type(received.fact).__name__,
        "tenant": received.tenant_id,
        "aggregate": received.aggregate,
        "key": received.aggregate_id,
        "version": received.version,
        "time": received.time,
        "causation_id": received.causation_id,
        "data": _plain(received.fact),
    }


def rejection_as_json(message: Message, codec: Codec) -> dict[str, object]:
    """Bytes that are not UTF-8 as {"base64": …}."""
    rejection = read_rejection(message, codec)
    whole: dict[str, object] = _plain(rejection)
    whole["headers"] = {header.name: _plain(header.value) for header in rejection.headers}
    headers = _headers(message)
    return {"id": headers["ce_id"], "tenant": headers.get("ce_tenantid"), "causation_id": headers.get("ce_causationid"), **whole}


def _headers(message: Message) -> dict[str, str]:
    headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    return {name: value.decode() for name, value in headers if value is not None}


def _plain(value: Any) -> Any:  # noqa: ANN401 - any value of the domain
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return format_rfc3339(value)
    if isinstance(value, Decimal):
        return f"{value:.6f}"
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(value).decode()}
    return value
