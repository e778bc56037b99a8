"""Framing and strictness: a released schema of the very record, every byte consumed, whatever the bytes are."""

import json
import struct
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO

import fastavro
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.codec import DecodeError, load_codec
from worker.domain.aggregate import SLO, intent_name
from worker.domain.parsing import parse_command
from worker.domain.rejection import IntentRejected, RecordHeader, Rejection, Violation
from worker.domain.slo import CreateSLO, RecordSLIWindow, SliSpec
from worker.package_data import AVRO

CODEC = load_codec()
WINDOW = RecordSLIWindow(start=datetime(2026, 3, 2, tzinfo=UTC), width_seconds=60, good=99, total=100, revision=1)
SPEC = SliSpec(good="g", total="t", budgeting_method="timeslices", slice_seconds=60, slice_target=Decimal("99.5"))
CREATE = CreateSLO(name="Näme", target=Decimal("99.95"), window="7d", sli_spec=SPEC, owner="o", scope="s", actor="a")
RECORD, CREATE_RECORD = intent_name(RecordSLIWindow), intent_name(CreateSLO)


@pytest.mark.parametrize("command", [WINDOW, CREATE])
def test_a_command_survives_the_wire(command: object) -> None:
    name = intent_name(type(command))
    assert parse_command(SLO, name, CODEC.decode(name, CODEC.encode(name, command)), "checkout") == command


def test_a_strangers_avro_library_reads_what_is_written() -> None:
    value = CODEC.encode(RECORD, WINDOW)
    schema = fastavro.parse_schema(json.loads((AVRO / f"sre/core/v1/intents/{RECORD}.avsc").read_text()))
    datum = fastavro.schemaless_reader(BytesIO(value[10:]), schema, None)
    assert isinstance(datum, dict)
    assert datum["start"] == WINDOW.start
    assert (datum["good"], datum["total"], datum["revision"], datum["expected_version"]) == (99, 100, 1, None)


def test_an_intent_rejected_survives_the_wire() -> None:
    rejected = IntentRejected(
        code="SCHEMA_INVALID",
        message="x",
        violations=(Violation("a", "b"),),
        topic="t",
        partition=1,
        offset=2,
        broker_timestamp=datetime(2026, 3, 2, tzinfo=UTC),
        key=None,
        headers=(RecordHeader(name="n", value=b"\x00"), RecordHeader(name="n", value=None)),
        value=b"\xff",
        value_size=1,
        value_sha256="00",
    )
    decoded = CODEC.decode("IntentRejected", CODEC.encode("IntentRejected", rejected))
    assert decoded["headers"] == [{"name": "n", "value": b"\x00"}, {"name": "n", "value": None}]
    assert decoded["violations"] == [{"field": "a", "message": "b"}]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xc3",
        b"\xc3\x01",
        b"\xc3\x01" + bytes(8),
        b"\x00\x00\x00\x00\x01",
        b"{}",
        CODEC.encode(RECORD, WINDOW) + b"\x00",
        CODEC.encode(RECORD, WINDOW)[:-1],
        CODEC.encode(CREATE_RECORD, CREATE),  # a released schema, but of another record
    ],
)
def test_what_is_not_this_record_is_refused(value: bytes) -> None:
    with pytest.raises(DecodeError):
        CODEC.decode(RECORD, value)


@given(st.sampled_from([RECORD, CREATE_RECORD]), st.binary(max_size=200))
@example(CREATE_RECORD, b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01")
def test_garbage_after_a_good_header_is_a_datum_or_refused_and_never_an_accident(record: str, garbage: bytes) -> None:
    try:
        fields = CODEC.decode(record, CODEC.headers[record] + garbage)
    except DecodeError:
        return
    parse_command(SLO, record, fields, "checkout")


def refused(fields: dict[str, object], record: str = RECORD, subject: str = "checkout") -> tuple[str, set[str]]:
    outcome = parse_command(SLO, record, fields, subject)
    assert isinstance(outcome, Rejection), outcome
    return outcome.code, {violation.field for violation in outcome.violations}


def datum(command: object, **changes: object) -> dict[str, object]:
    name = intent_name(type(command))
    return {**CODEC.decode(name, CODEC.encode(name, command)), **changes}


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"start": 253_402_300_800_000_000}, "SCHEMA_INVALID", "start"),
        ({"start": -62_135_596_800_000_001}, "SCHEMA_INVALID", "start"),
        ({"revision": -1}, "SCHEMA_INVALID", "revision"),
        ({"revision": 2**31}, "SCHEMA_INVALID", "revision"),
        ({"width_seconds": 2**31}, "SCHEMA_INVALID", "width_seconds"),
        ({"good": 2**63}, "SCHEMA_INVALID", "good"),
        ({"good": True}, "SCHEMA_INVALID", "good"),
        ({"surplus": 1}, "SCHEMA_INVALID", "surplus"),
    ],
)
def test_shapes_of_a_window(change: dict[str, object], code: str, field: str) -> None:
    assert refused(datum(WINDOW, **change)) == (code, {field})


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"target": b""}, "SCHEMA_INVALID", "target"),
        ({"target": (10**9).to_bytes(5, "big")}, "SCHEMA_INVALID", "target"),
        ({"name": ""}, "SCHEMA_INVALID", "name"),
        ({"name": "\u2003"}, "SCHEMA_INVALID", "name"),
        ({"name": "a\x00b"}, "SCHEMA_INVALID", "name"),
        ({"name": "a\nb"}, "SCHEMA_INVALID", "name"),
        ({"name": "x" * 201}, "LIMIT_EXCEEDED", "name"),
        ({"description": "a\x00b"}, "SCHEMA_INVALID", "description"),
        ({"description": "x" * 10_001}, "LIMIT_EXCEEDED", "description"),
        ({"window": "7d\x00"}, "SCHEMA_INVALID", "window"),
        ({"sli_spec": {"budgeting_method": "occurrences", "good": "x" * 2001}}, "LIMIT_EXCEEDED", "sli_spec.good"),
        ({"sli_spec": {"budgeting_method": "occurrences", "goood": "x"}}, "SCHEMA_INVALID", "sli_spec.goood"),
        ({"name": "", "owner": "x" * 201}, "SCHEMA_INVALID", "name"),  # shapes decide before sizes
    ],
)
def test_shapes_and_sizes_of_a_definition(change: dict[str, object], code: str, field: str) -> None:
    assert refused(datum(CREATE, **change), CREATE_RECORD) == (code, {field})


def test_limits_count_characters_and_texts_keep_their_line_feeds() -> None:
    command = replace(CREATE, name="é" * 200, description="a\r\n\tb")
    assert parse_command(SLO, CREATE_RECORD, datum(command), "checkout") == command


@pytest.mark.parametrize(
    ("subject", "code"),
    [("Checkout", "SCHEMA_INVALID"), ("a--b", "SCHEMA_INVALID"), ("a\n", "SCHEMA_INVALID"), ("a" * 65, "LIMIT_EXCEEDED")],
)
def test_an_slo_id_is_a_slug(subject: str, code: str) -> None:
    assert refused(datum(WINDOW), subject=subject) == (code, {"ce_subject"})


@pytest.mark.parametrize(
    ("text", "ok"),
    [("99.9", True), (99, True), ("99.9000001", False), ("1e2", True), ("nan", False), ("1e999999", False), ("x", False), (True, False)],
)
def test_percents_from_json_are_exact_or_refused(text: object, ok: bool) -> None:  # noqa: FBT001
    outcome = parse_command(SLO, CREATE_RECORD, datum(CREATE, target=text), "checkout")
    assert isinstance(outcome, CreateSLO) is ok


def test_confluent_framing_is_read_where_a_registry_is_set() -> None:
    framed = b"\x00" + struct.pack("!I", 7) + CODEC.encode(RECORD, WINDOW)[10:]
    fingerprints = {7: CODEC.headers[RECORD][2:], 8: CODEC.headers[CREATE_RECORD][2:], 10: None}
    codec = replace(CODEC, writer_of_id=fingerprints.__getitem__)
    assert parse_command(SLO, RECORD, codec.decode(RECORD, framed), "checkout") == WINDOW
    for unknown in (8, 9, 10):
        with pytest.raises(DecodeError):
            codec.decode(RECORD, b"\x00" + struct.pack("!I", unknown) + framed[5:])
    for cut in (b"\x00", framed[:4], framed[:-1], framed + b"\x00"):
        with pytest.raises(DecodeError):
            codec.decode(RECORD, cut)
    with pytest.raises(DecodeError):
        CODEC.decode(RECORD, framed)
