"""The .avsc files say what the domain's dataclasses say, field by field."""

from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import datetime
from decimal import Decimal
from io import BytesIO
from types import UnionType
from typing import Annotated, Any, TypeAlias, Union, get_args, get_origin, get_type_hints

import pytest
from fastavro import parse_schema, schemaless_reader
from fastavro.schema import fingerprint, to_parsing_canonical_form
from pydantic import AfterValidator, BeforeValidator
from pydantic.fields import FieldInfo

from tests.support.avro_files import NAMESPACE, V1, Schema, Type, current_schema, fingerprint_of, read_file, without
from worker.codec import load_codec
from worker.domain import slo
from worker.domain.aggregate import AGGREGATES
from worker.domain.fields import PERCENT_PLACES, DecimalShape, uuid
from worker.domain.rejection import IntentRejected

Hint: TypeAlias = Any  # the annotation of a field

INTENTS: dict[str, Any] = {name: adapter._type for aggregate in AGGREGATES.values() for name, adapter in aggregate.intents.items()}
FACTS: dict[str, Any] = {name: adapter._type for aggregate in AGGREGATES.values() for name, adapter in aggregate.facts.items()} | {
    "IntentRejected": IntentRejected
}


def records_named_by(hint: Hint) -> Iterator[type]:
    """The dataclasses that an annotation is made of, and those that they are made of."""
    if isinstance(hint, type) and is_dataclass(hint):
        yield hint
        for inner in get_type_hints(hint, include_extras=True).values():
            yield from records_named_by(inner)
    else:  # the constraints of an annotated type are no types
        for inner in get_args(hint)[:1] if hasattr(hint, "__metadata__") else get_args(hint):
            yield from records_named_by(inner)


PARTS = {part.__name__: part for record in (*INTENTS.values(), *FACTS.values()) for part in records_named_by(record) if part is not record}
DATACLASSES: dict[str, type] = INTENTS | FACTS | PARTS


def avro_of(datatype: type, name: str) -> Schema:
    """The schema that a dataclass of the domain stands for."""
    hints = get_type_hints(datatype, include_extras=True)
    described = [avro_field(field, hints[field.name]) for field in fields(datatype)]
    return {"type": "record", "name": name, "namespace": NAMESPACE, "fields": described}


def avro_field(field: Field[Any], hint: Hint) -> Schema:
    described = {"name": field.name, "type": avro_type(hint)}
    default = field.default if field.default_factory is MISSING else field.default_factory()
    return described if default is MISSING else described | {"default": [] if default == () else default}


def avro_type(hint: Hint) -> Type:
    origin: Hint = get_origin(hint)
    arguments = get_args(hint)
    if origin in (Union, UnionType):
        return ["null", *(avro_type(argument) for argument in arguments if argument is not type(None))]
    if origin is tuple:
        return {"type": "array", "items": avro_type(arguments[0])}
    if origin is not Annotated:
        return f"{NAMESPACE}.{hint.__name__}"
    base, *constraints = arguments
    if get_origin(base) is tuple:
        return avro_type(base)
    if get_origin(base) is dict:
        return {"type": "map", "values": "string"}
    if any(one.func is uuid for one in constraints if isinstance(one, AfterValidator)):
        return {"type": "string", "logicalType": "uuid"}
    if base is datetime:
        return {"type": "long", "logicalType": "timestamp-micros"}
    if base is Decimal:
        return {"type": "bytes", "logicalType": "decimal", "precision": digits(constraints), "scale": PERCENT_PLACES}
    if base is int:
        return "int" if upper_bound(constraints) <= 2**31 else "long"
    return {str: "string", bytes: "bytes", bool: "boolean"}[base]


def digits(constraints: list[Any]) -> int:
    (shape,) = (one.func for one in constraints if isinstance(one, BeforeValidator) and isinstance(one.func, DecimalShape))
    return shape.precision


def upper_bound(constraints: list[Any]) -> int:
    limits = [limit for one in constraints if isinstance(one, FieldInfo) for limit in one.metadata]
    (bound,) = (getattr(limit, name) for limit in limits for name in ("lt", "le") if hasattr(limit, name))
    return int(bound)


def recursive_names(node: Type, above: tuple[str, ...] = ()) -> Iterator[str]:
    """Records that are named within themselves."""
    if isinstance(node, str) and node in above:
        yield node
    elif isinstance(node, list):
        for item in node:
            yield from recursive_names(item, above)
    elif isinstance(node, dict):
        inside = (*above, node["name"]) if node.get("type") == "record" else above
        for key in ("type", "items", "values"):
            yield from recursive_names(node.get(key), inside)
        for field in node.get("fields", ()):
            yield from recursive_names(field["type"], inside)


def test_each_record_of_the_domain_has_its_file_and_no_other_file_exists() -> None:
    assert {path.relative_to(V1).as_posix() for path in V1.rglob("*.*")} == {
        f"{folder}/{name}.avsc" for folder, names in (("intents", INTENTS), ("facts", FACTS), ("types", PARTS)) for name in names
    }


def test_every_aggregate_is_compared() -> None:
    assert {name for aggregate in AGGREGATES.values() for name in aggregate.intents} == set(INTENTS)
    assert {name for aggregate in AGGREGATES.values() for name in aggregate.facts} | {"IntentRejected"} == set(FACTS)


@pytest.mark.parametrize("name", DATACLASSES)
def test_file_and_dataclass_agree_on_fields_order_types_and_defaults(name: str) -> None:
    assert without(read_file(name), "doc") == avro_of(DATACLASSES[name], name)


@pytest.mark.parametrize("name", DATACLASSES)
def test_every_record_and_field_is_described(name: str) -> None:
    schema = read_file(name)
    assert [part["name"] for part in (schema, *schema["fields"]) if not part.get("doc")] == []


@pytest.mark.parametrize("name", DATACLASSES)
def test_no_record_contains_itself(name: str) -> None:
    assert list(recursive_names(current_schema(name))) == []


def test_a_record_that_contains_itself_is_seen() -> None:
    node = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", {"type": "array", "items": "Node"}]}]}
    assert list(recursive_names(node)) == ["Node"]


def test_the_codec_frames_with_the_fingerprint_of_the_whole_schema() -> None:
    spec = slo.SliSpec(good="status < 500", total="all", budgeting_method="occurrences")
    text = {"name": "Checkout", "owner": "team-checkout", "scope": "checkout", "actor": "ann"}
    command = slo.CreateSLO(**text, target=Decimal("99.9"), window="7d", sli_spec=spec)
    value = load_codec().encode("CreateSLORequested", command)
    schema = current_schema("CreateSLORequested")
    assert value[:10] == b"\xc3\x01" + bytes.fromhex(fingerprint_of(schema))
    decoded = schemaless_reader(BytesIO(value[10:]), parse_schema(schema), None)
    spec_fields = {"good": "status < 500", "total": "all", "budgeting_method": "occurrences", "slice_seconds": None, "slice_target": None}
    assert decoded == {**text, "description": "", "target": Decimal("99.900000"), "window": "7d", "sli_spec": spec_fields}


def test_the_fingerprint_is_crc_64_avro_in_the_order_of_the_wire() -> None:
    # From the Avro project's own test cases: "null" has 0x63dd24e7cc258f8a, which is sent with its last byte first.
    assert fingerprint('"null"', "CRC-64-AVRO") == "8a8f25cce724dd63"


def test_the_canonical_form_writes_a_named_record_out_and_drops_logical_types() -> None:
    assert to_parsing_canonical_form(current_schema("SLOBudgetExhausted")) == (
        '{"name":"sre.core.v1.SLOBudgetExhausted","type":"record","fields":[{"name":"budget","type":'
        '{"name":"sre.core.v1.Budget","type":"record","fields":[{"name":"budget_status","type":"string"},'
        '{"name":"current_budget_remaining","type":"bytes"},{"name":"budget_consumed","type":"bytes"},'
        '{"name":"as_of","type":["null","long"]}]}}]}'
    )
