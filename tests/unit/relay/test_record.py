"""A row of the outbox becomes the record that the contract describes."""

from uuid import UUID

import pytest

from worker.relay.pgoutput import Column, Relation
from worker.relay.record import OutboxShapeError, Record, record_maker

FACT_ID = UUID("535c88b9-3f6f-5719-8aed-15edcda97197")
TEXT, VARCHAR, UUID_OID, BYTEA, INT4, INT8, TIMESTAMP = 25, 1043, 2950, 17, 23, 20, 1114
TYPES = {
    "id": UUID_OID,
    "aggregatetype": VARCHAR,
    "aggregateid": VARCHAR,
    "type": VARCHAR,
    "payload": BYTEA,
    "timestamp": TIMESTAMP,
    "topic": VARCHAR,
    "key": BYTEA,
    "partition": INT4,
    "tenant_id": TEXT,
    "aggregate_version": INT8,
    "ce_time": TEXT,
    "subject": TEXT,
    "correlation_id": TEXT,
    "causation_id": TEXT,
    "traceparent": TEXT,
    "tracestate": TEXT,
    "principal": TEXT,
}
FACT: dict[str, bytes | None] = {
    "id": FACT_ID.bytes,
    "aggregatetype": b"slo",
    "aggregateid": b"checkout",
    "type": b"sre.core.v1.SLOCreated",
    "payload": b"\xc3\x01\x00",
    "timestamp": bytes(8),
    "topic": b"sre.slo.facts.v1",
    "key": b"acme/checkout/300",
    "partition": b"\0\0\0\x0b",
    "tenant_id": b"acme",
    "aggregate_version": b"\0\0\0\0\0\0\x01\x2c",
    "ce_time": b"2026-03-02T12:00:00.000000Z",
    "subject": b"checkout",
    "correlation_id": b"c-1",
    "causation_id": b"i-1",
    "traceparent": b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "tracestate": b"rojo=00f067aa0ba902b7",
    "principal": b"ann",
}
NULLABLE = ("subject", "correlation_id", "causation_id", "traceparent", "tracestate", "principal", "aggregate_version", "key")
REJECTION = {
    **FACT,
    **dict.fromkeys(NULLABLE),
    "type": b"sre.core.v1.IntentRejected",
    "topic": b"sre.intents.rejected.v1",
    "tenant_id": b"",
    "partition": bytes(4),
}


def relation(types: dict[str, int]) -> Relation:
    return Relation(16_443, "public", "outbox", tuple(Column(name, oid) for name, oid in types.items()))


def record(row: dict[str, bytes | None], types: dict[str, int] = TYPES) -> Record:
    return record_maker(relation(types))([row[name] for name in types])


def test_a_fact_goes_to_its_topic_partition_and_key_with_its_value_untouched() -> None:
    made = record(FACT)
    assert (made.topic, made.partition, made.key, made.value) == ("sre.slo.facts.v1", 11, b"acme/checkout/300", b"\xc3\x01\x00")


def test_a_fact_has_every_header_of_the_envelope_once() -> None:
    assert record(FACT).headers == [
        ("ce_specversion", b"1.0"),
        ("ce_id", "535c88b9-3f6f-5719-8aed-15edcda97197"),
        ("ce_source", b"/sre-domain"),
        ("ce_type", b"sre.core.v1.SLOCreated"),
        ("ce_time", b"2026-03-02T12:00:00.000000Z"),
        ("ce_subject", b"checkout"),
        ("ce_tenantid", b"acme"),
        ("content-type", b"application/avro"),
        ("ce_correlationid", b"c-1"),
        ("ce_causationid", b"i-1"),
        ("ce_traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("ce_tracestate", b"rojo=00f067aa0ba902b7"),
        ("ce_principal", b"ann"),
        ("ce_aggregatetype", b"slo"),
        ("ce_aggregateid", b"checkout"),
        ("ce_aggregateversion", b"300"),
    ]


def test_a_rejection_of_a_record_without_id_or_tenant_goes_without_the_headers_it_has_no_value_for() -> None:
    assert record(REJECTION) == Record(
        topic="sre.intents.rejected.v1",
        partition=0,
        key=None,
        value=b"\xc3\x01\x00",
        headers=[
            ("ce_specversion", b"1.0"),
            ("ce_id", str(FACT_ID)),
            ("ce_source", b"/sre-domain"),
            ("ce_type", b"sre.core.v1.IntentRejected"),
            ("ce_time", b"2026-03-02T12:00:00.000000Z"),
            ("content-type", b"application/avro"),
        ],
    )


@pytest.mark.parametrize(
    ("column", "header"),
    [
        ("subject", "ce_subject"),
        ("correlation_id", "ce_correlationid"),
        ("causation_id", "ce_causationid"),
        ("traceparent", "ce_traceparent"),
        ("tracestate", "ce_tracestate"),
        ("principal", "ce_principal"),
    ],
)
def test_a_null_column_takes_away_its_header_and_no_other(column: str, header: str) -> None:
    assert record({**FACT, column: None}).headers == [pair for pair in record(FACT).headers if pair[0] != header]


def test_the_headers_of_an_aggregate_need_a_version() -> None:
    headers = dict(record({**FACT, "aggregate_version": None}).headers)
    assert not [name for name in headers if name.startswith("ce_aggregate")]


def test_an_empty_key_is_not_a_missing_one() -> None:
    assert record({**FACT, "key": b""}).key == b""


def test_columns_are_found_by_name_wherever_they_stand() -> None:
    reordered = {"new_column": TEXT, **dict(reversed(TYPES.items()))}
    assert record({**FACT, "new_column": b"later"}, reordered) == record(FACT)


def test_a_table_without_one_of_the_columns_is_refused_by_name() -> None:
    with pytest.raises(OutboxShapeError, match=r"^public\.outbox .* causation_id: "):
        record_maker(relation({name: oid for name, oid in TYPES.items() if name != "causation_id"}))


@pytest.mark.parametrize("column", sorted(TYPES.keys() - {"timestamp"}))
def test_a_column_of_another_type_is_refused_by_name(column: str) -> None:
    with pytest.raises(OutboxShapeError, match=rf" {column}: "):
        record_maker(relation({**TYPES, column: TIMESTAMP}))
