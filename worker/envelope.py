"""CloudEvents 1.0, Kafka binary mode: headers in, a checked envelope or a rejection out (CloudEvents Kafka binding 1.0.2, §3.2).

Checks 1 to 6 of docs/contract.md but 4, which asks for more than headers; those that need the inbox or the value come after.
"""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from worker.domain.fields import parse_rfc3339
from worker.domain.outcome import CLOCK_TOLERANCE
from worker.domain.rejection import Rejection, RejectionCode, refuse_fields

Header = tuple[str, bytes | None]

SPEC_VERSION: Final = b"1.0"
CONTENT_TYPE: Final = b"application/avro"
TYPE_PREFIX: Final = "sre.core.v1."
SOURCE: Final = "/sre-domain"

MAX_VALUE_BYTES: Final = 256 * 1024
MAX_HEADERS_BYTES: Final = 16 * 1024
_MAX_OPTIONAL_BYTES: Final = 1024
_FLOOD: Final = 100
_ASKED_FOR: Final = ("ce_", "content-type")

_TENANT = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_ID = re.compile(rb"[!-~]{1,128}")
_URI_REFERENCE = re.compile(rb"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")  # the characters of RFC 3986, nothing more
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

_REQUIRED: Final = ("ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_subject", "content-type")


class Record(NamedTuple):
    """A record as it lies in its topic; `timestamp_ms` is the broker's, headers are in order and may repeat."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header]


@dataclass(frozen=True, slots=True)
class Trace:
    """The optional headers that an intent passes on; None where absent."""

    correlation_id: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """The headers of an intent that passed checks 1 to 3; `type` is the intent's name, as on the wire, without its namespace."""

    tenant_id: str
    intent_id: str
    type: str
    time: datetime
    subject: str
    trace: Trace

    @property
    def intent(self) -> tuple[str, str]:
        """What is unique: the tenant and its id for the intent."""
        return self.tenant_id, self.intent_id


@dataclass(frozen=True, slots=True)
class Salvage:
    """What a rejection can carry over from headers that may be broken: each is None where it would not have passed."""

    tenant_id: str | None
    intent_id: str | None
    subject: str | None
    trace: Trace


def open_envelope(record: Record) -> Envelope | Rejection:
    """Checks 1 to 3: size, tenant, and the other required headers, key and value."""
    return _too_large(record) or _open(record)


def check_time(envelope: Envelope, now: datetime, inbox_retention: timedelta) -> Rejection | None:
    """Check 6, the only one that reads a clock."""
    if envelope.time > now + CLOCK_TOLERANCE:
        return refuse_fields(RejectionCode.TIMESTAMP_IN_FUTURE, {"ce_time": "must be at most 5 minutes ahead of the clock"})
    if envelope.time < now - inbox_retention:
        return refuse_fields(RejectionCode.INTENT_EXPIRED, {"ce_time": f"must be at most {inbox_retention.days} days ago"})
    return None


def check_type(envelope: Envelope, intents: Collection[str]) -> Rejection | None:
    """Check 5: the type is one of this topic's intents."""
    if envelope.type in intents:
        return None
    return refuse_fields(RejectionCode.UNKNOWN_INTENT, {"ce_type": "is not an intent of this topic"})


def malformed(tenant_id: str, intent_id: str) -> Rejection | None:
    """What checks 2 and 3 would say of a tenant and an id, for a publisher that wants to know before it sends."""
    if _TENANT.fullmatch(tenant_id.encode()) is None:
        return refuse_fields(RejectionCode.TENANT_REQUIRED, {"ce_tenantid": "must be letters, digits and ._- and at most 63 of them"})
    if _ID.fullmatch(intent_id.encode()) is None:
        return refuse_fields(RejectionCode.SCHEMA_INVALID, {"ce_id": "must be 1 to 128 printable ASCII characters"})
    return None


def optional_headers(record: Record, names: Sequence[str]) -> tuple[str | None, ...]:
    """Each header's text; None where it counts as absent."""
    values = _values(record.headers)
    return tuple(_optional(values.get(name)) for name in names)


def salvage(record: Record) -> Salvage:
    values = _values(record.headers)
    subject = values.get("ce_subject")
    return Salvage(
        tenant_id=_matched(_TENANT, values.get("ce_tenantid")),
        intent_id=_matched(_ID, values.get("ce_id")),
        subject=_text(subject) if subject is None or len(subject) <= MAX_HEADERS_BYTES else None,  # longer ones pass no check
        trace=_trace(values),
    )


def _too_large(record: Record) -> Rejection | None:
    faults = {}
    if record.value is not None and len(record.value) > MAX_VALUE_BYTES:
        faults["value"] = f"must have at most {MAX_VALUE_BYTES} bytes"
    names = "".join([name for name, _ in record.headers])
    if len(names.encode()) + sum([len(value) for _, value in record.headers if value]) > MAX_HEADERS_BYTES:
        faults["headers"] = f"must have at most {MAX_HEADERS_BYTES} bytes of names and values"
    return refuse_fields(RejectionCode.MESSAGE_TOO_LARGE, faults) if faults else None


def _open(record: Record) -> Envelope | Rejection:
    values = _values(record.headers)
    tenant_id = _matched(_TENANT, values.get("ce_tenantid"))
    if tenant_id is None:
        return refuse_fields(RejectionCode.TENANT_REQUIRED, {"ce_tenantid": "must be present once and well-formed"})
    intent_id = _matched(_ID, values.get("ce_id"))
    time = _time(values.get("ce_time"))
    type_, subject = _text(values.get("ce_type")), _text(values.get("ce_subject"))
    if (
        intent_id is None
        or time is None
        or type_ is None
        or subject is None
        or values.get("ce_specversion") != SPEC_VERSION
        or values.get("content-type") != CONTENT_TYPE
        or _matched(_URI_REFERENCE, values.get("ce_source")) is None
        or record.key != values["ce_subject"]
        or record.value is None
    ):
        return refuse_fields(RejectionCode.SCHEMA_INVALID, _faults(record, values))
    name = type_.removeprefix(TYPE_PREFIX) if type_.startswith(TYPE_PREFIX) else ""
    return Envelope(tenant_id, intent_id, name, time, subject, _trace(values))


def _faults(record: Record, values: dict[str, bytes | None]) -> dict[str, str]:
    """Every required part that fails check 3, with why."""
    well_formed = {
        "ce_specversion": values.get("ce_specversion") == SPEC_VERSION,
        "ce_id": _matched(_ID, values.get("ce_id")),
        "ce_source": _matched(_URI_REFERENCE, values.get("ce_source")),
        "ce_type": _text(values.get("ce_type")),
        "ce_time": _time(values.get("ce_time")),
        "ce_subject": _text(values.get("ce_subject")),
        "content-type": values.get("content-type") == CONTENT_TYPE,
    }
    faults = {name: "must be present once and well-formed" for name in _REQUIRED if not well_formed[name]}
    if well_formed["ce_subject"] and record.key != values["ce_subject"]:
        faults["key"] = "must equal ce_subject"
    if record.value is None:
        faults["value"] = "must not be null"
    return faults


def _values(headers: Sequence[Header]) -> dict[str, bytes | None]:
    """Header values by name; a repeated header counts as one that fails. Of a flood, only those that anybody asks for."""
    if len(headers) > _FLOOD:
        headers = [header for header in headers if header[0].startswith(_ASKED_FOR)]
    values = dict(headers)
    if len(values) != len(headers):
        for name, times in Counter(name for name, _ in headers).items():
            if times > 1:
                values[name] = None
    return values


def _matched(pattern: re.Pattern[bytes], value: bytes | None) -> str | None:
    return None if value is None or pattern.fullmatch(value) is None else value.decode("ascii")


def _text(value: bytes | None) -> str | None:
    try:
        return value.decode() if value else None
    except UnicodeDecodeError:
        return None


def _time(value: bytes | None) -> datetime | None:
    try:
        return None if value is None else parse_rfc3339(value.decode("ascii"))
    except ValueError:  # UnicodeDecodeError is one
        return None


def _trace(values: dict[str, bytes | None]) -> Trace:
    return Trace(
        _optional(values.get("ce_correlationid")),
        _optional(values.get("ce_traceparent")),
        _optional(values.get("ce_tracestate")),
    )


def _optional(value: bytes | None) -> str | None:
    """An optional header that is null, empty, too long, not UTF-8 or holds a control character counts as absent."""
    if not value or len(value) > _MAX_OPTIONAL_BYTES:
        return None
    text = _text(value)
    return None if text is None or _CONTROL.search(text) else text
