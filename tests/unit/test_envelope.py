"""Checks 1 to 6: what headers, key and value must be before anything else is looked at."""

from datetime import UTC, datetime, timedelta

import pytest

from worker.domain.rejection import Rejection
from worker.envelope import Envelope, Header, Record, Trace, check_time, check_type, open_envelope, salvage

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HEADERS: dict[str, bytes | None] = {
    "ce_specversion": b"1.0",
    "ce_id": b"0b7c6a52",
    "ce_source": b"/integrations/access-log",
    "ce_type": b"sre.core.v1.RecordSLIWindowRequested",
    "ce_time": b"2026-03-02T12:00:00Z",
    "ce_subject": b"checkout",
    "ce_tenantid": b"acme",
    "content-type": b"application/avro",
}


def record(key: bytes | None = b"checkout", value: bytes | None = b"\xc3\x01", **changes: bytes | None) -> Record:
    """A good record, but for these headers (`_` for `-` in their names)."""
    headers = {**HEADERS, **{name.replace("content_type", "content-type"): change for name, change in changes.items()}}
    return with_headers(list(headers.items()), key, value)


def with_headers(headers: list[Header], key: bytes | None = b"checkout", value: bytes | None = b"\xc3\x01") -> Record:
    return Record("sre.slo.intents.v1", 3, 4711, 1764000000000, key, value, headers)


def opened(candidate: Record) -> Envelope:
    envelope = open_envelope(candidate)
    assert isinstance(envelope, Envelope), envelope
    return envelope


def refused(candidate: Record) -> tuple[str, set[str]]:
    rejection = open_envelope(candidate)
    assert isinstance(rejection, Rejection), rejection
    return rejection.code, {violation.field for violation in rejection.violations}


def test_a_good_record_opens() -> None:
    assert opened(record()) == Envelope("acme", "0b7c6a52", "RecordSLIWindowRequested", NOON, "checkout", Trace())


def test_unknown_headers_are_passed_over_even_when_repeated() -> None:
    assert opened(with_headers([*HEADERS.items(), ("x", b"1"), ("x", b"2")]))


@pytest.mark.parametrize("tenant", [None, b"", b"-acme", b"a" * 64, b"acme\n", "acmé".encode(), b"a/b"])
def test_a_tenant_that_is_missing_or_malformed_is_required(tenant: bytes | None) -> None:
    assert refused(record(ce_tenantid=tenant)) == ("TENANT_REQUIRED", {"ce_tenantid"})


def test_a_repeated_tenant_is_required_once() -> None:
    assert refused(with_headers([*HEADERS.items(), ("ce_tenantid", b"other")]))[0] == "TENANT_REQUIRED"


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("ce_specversion", b"0.3"),
        ("ce_id", b""),
        ("ce_id", b"a b"),
        ("ce_id", b"x" * 129),
        ("ce_source", b""),
        ("ce_source", b"/a b"),
        ("ce_source", "/é".encode()),
        ("ce_type", None),
        ("ce_type", b"\xff"),
        ("ce_time", b"2026-03-02"),
        ("ce_time", b"2026-03-02t12:00:00z"),
        ("ce_time", b"2026-03-02T12:00:60Z"),
        ("ce_time", b"2026-02-30T12:00:00Z"),
        ("ce_time", b"2026-03-02T12:00:00"),
        ("ce_time", b"2026-03-02T12:00:00+24:00"),
        ("ce_time", b"0001-01-01T00:00:00+01:00"),
        ("ce_time", "٢٠٢٦-03-02T12:00:00Z".encode()),
        ("content_type", b"application/avro; charset=utf-8"),
    ],
)
def test_a_required_header_that_is_malformed_is_named(header: str, value: bytes | None) -> None:
    assert refused(record(**{header: value})) == ("SCHEMA_INVALID", {header.replace("content_type", "content-type")})


def test_every_header_at_fault_is_named() -> None:
    code, fields = refused(with_headers([("ce_tenantid", b"acme"), ("ce_id", b"1"), ("ce_id", b"1")], value=None))
    assert code == "SCHEMA_INVALID"
    required = {"ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_subject", "content-type", "value"}
    assert fields == required


def test_the_key_is_the_subject_and_the_value_is_not_null() -> None:
    assert refused(record(key=b"other")) == ("SCHEMA_INVALID", {"key"})
    assert refused(record(key=None)) == ("SCHEMA_INVALID", {"key"})
    assert refused(record(value=None)) == ("SCHEMA_INVALID", {"value"})


def test_sizes_are_limited_before_anything_else() -> None:
    assert opened(record(value=b"x" * 256 * 1024))
    assert refused(record(value=b"x" * (256 * 1024 + 1), ce_tenantid=None)) == ("MESSAGE_TOO_LARGE", {"value"})
    used = sum(len(name) + len(value or b"") for name, value in HEADERS.items())
    assert opened(with_headers([*HEADERS.items(), ("pad", b"x" * (16 * 1024 - used - 3))]))
    assert refused(with_headers([*HEADERS.items(), ("pad", b"x" * (16 * 1024 - used - 2))])) == ("MESSAGE_TOO_LARGE", {"headers"})


@pytest.mark.parametrize(
    ("text", "time"),
    [
        (b"2026-03-02T12:00:00.1234567Z", NOON.replace(microsecond=123456)),
        (b"2026-03-02T14:00:00+02:00", NOON),
        (b"2026-03-02T12:00:00-00:00", NOON),
        (b"0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        (b"9999-12-31T23:59:59.999999Z", datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
    ],
)
def test_times_are_utc_cut_to_microseconds(text: bytes, time: datetime) -> None:
    assert opened(record(ce_time=text)).time == time


def test_an_optional_header_that_breaks_its_rules_counts_as_absent() -> None:
    good = record(ce_correlationid=b"c", ce_traceparent=b"00-ab-cd-01", ce_tracestate=b"a=1")
    assert opened(good).trace == Trace("c", "00-ab-cd-01", "a=1")
    for value in (b"", None, b"x" * 1025, b"\xff", b"a\x00b", "a\x85".encode()):
        assert opened(record(ce_correlationid=value)).trace.correlation_id is None
    assert opened(with_headers([*good.headers, ("ce_correlationid", b"d")])).trace.correlation_id is None


def test_only_intents_of_the_topic_are_known() -> None:
    known = {"RecordSLIWindowRequested"}
    assert check_type(opened(record()), known) is None
    for unknown in (b"sre.core.v1.RecordSLIWindow", b"sre.core.v2.RecordSLIWindowRequested", b"RecordSLIWindowRequested"):
        rejection = check_type(opened(record(ce_type=unknown)), known)
        assert rejection is not None
        assert rejection.code == "UNKNOWN_INTENT"


def test_the_clock_allows_five_minutes_ahead_and_the_retention_behind() -> None:
    envelope, retention = opened(record()), timedelta(days=30)
    assert check_time(envelope, NOON - timedelta(minutes=5), retention) is None
    assert check_time(envelope, NOON + retention, retention) is None
    future = check_time(envelope, NOON - timedelta(minutes=5, microseconds=1), retention)
    past = check_time(envelope, NOON + retention + timedelta(microseconds=1), retention)
    assert future is not None
    assert past is not None
    assert (future.code, past.code) == ("TIMESTAMP_IN_FUTURE", "INTENT_EXPIRED")


def test_a_rejection_keeps_what_can_be_kept_of_broken_headers() -> None:
    broken = record(key=b"other", ce_tenantid=b"-", ce_correlationid=b"c")
    saved = salvage(broken)
    assert (saved.tenant_id, saved.intent_id, saved.subject, saved.trace.correlation_id) == (None, "0b7c6a52", "checkout", "c")
