"""The current schemas read whatever any released version of them wrote, and history/ has every released version."""

import json
from collections.abc import Iterator
from dataclasses import MISSING
from io import BytesIO
from itertools import zip_longest

import pytest
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.utils import generate_many

from tests.support.avro_files import HISTORY, NAMESPACE, V1, Schema, Type, current_schema, fingerprint_of

RECORDS = sorted(path.stem for path in V1.glob("*/*.avsc"))


def released_schemas() -> dict[str, tuple[str, Schema]]:
    """Record and schema of each file of history/, by the file's place."""
    paths = sorted(HISTORY.glob("*/*.avsc"))
    return {path.relative_to(HISTORY).as_posix(): (path.parent.name, json.loads(path.read_text(encoding="utf-8"))) for path in paths}


RELEASED = released_schemas()


def breaking_changes(released: Type, current: Type, where: str) -> Iterator[str]:
    """What docs/contract.md forbids from one version of a type to a later one."""
    match released, current:
        case {"type": "record", "fields": before}, {"type": "record", "fields": after} if released["name"] == current["name"]:
            yield from breaking_fields(before, after, where)
        case {"type": "array", "items": before}, {"type": "array", "items": after}:
            yield from breaking_changes(before, after, where)
        case [*before], [*after] if len(before) == len(after):
            for one, other in zip(before, after, strict=True):
                yield from breaking_changes(one, other, where)
        case _ if released != current:
            yield f"{where} has another type"


def breaking_fields(released: list[Schema], current: list[Schema], where: str) -> Iterator[str]:
    for before, after in zip_longest(released, current):
        if after is None or (before is not None and before["name"] != after["name"]):
            yield f"{where}.{before['name']} was removed, renamed or moved"
            return
        place = f"{where}.{after['name']}"
        if before is None:
            if "default" not in after:
                yield f"{place} is new and has no default"
            continue
        if before.get("default", MISSING) != after.get("default", MISSING):
            yield f"{place} has another default"
        yield from breaking_changes(before["type"], after["type"], place)


@pytest.mark.parametrize("name", RECORDS)
def test_the_current_schema_is_among_the_released_ones(name: str) -> None:
    schema = current_schema(name)
    place = f"{name}/{fingerprint_of(schema)}.avsc"
    assert RELEASED.get(place) == (name, schema), f"schemas/avro/history/{place} must hold:\n{json.dumps(schema)}"


@pytest.mark.parametrize("place", RELEASED)
def test_a_released_schema_lies_under_its_record_and_fingerprint(place: str) -> None:
    name, schema = RELEASED[place]
    assert schema["name"] == f"{NAMESPACE}.{name}"
    assert place == f"{name}/{fingerprint_of(schema)}.avsc"


@pytest.mark.parametrize("place", RELEASED)
def test_the_current_schema_changes_nothing_that_was_released(place: str) -> None:
    name, schema = RELEASED[place]
    assert list(breaking_changes(schema, current_schema(name), name)) == []


@pytest.mark.parametrize("place", RELEASED)
def test_the_current_schema_reads_data_of_every_released_one(place: str) -> None:
    name, released = RELEASED[place]
    for datum in generate_many(parse_schema(released), 20):
        written = BytesIO()
        schemaless_writer(written, parse_schema(released), datum)
        written.seek(0)
        read = schemaless_reader(written, parse_schema(released), parse_schema(current_schema(name)))
        assert isinstance(read, dict)
        assert set(read) == {field["name"] for field in current_schema(name)["fields"]}


@pytest.mark.parametrize(
    ("after", "change"),
    [
        ([], "R.a was removed, renamed or moved"),
        ([{"name": "b", "type": "long"}], "R.a was removed, renamed or moved"),
        ([{"name": "b", "type": "long", "default": 0}, {"name": "a", "type": "long"}], "R.a was removed, renamed or moved"),
        ([{"name": "a", "type": "int"}], "R.a has another type"),
        ([{"name": "a", "type": ["null", "long"]}], "R.a has another type"),
        ([{"name": "a", "type": {"type": "long", "logicalType": "timestamp-micros"}}], "R.a has another type"),
        ([{"name": "a", "type": "long", "default": 1}], "R.a has another default"),
        ([{"name": "a", "type": "long"}, {"name": "b", "type": "long"}], "R.b is new and has no default"),
        ([{"name": "a", "type": "long"}, {"name": "b", "type": "long", "default": 0}], None),
    ],
)
def test_breaking_changes_are_seen(after: list[Schema], change: str | None) -> None:
    released = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}]}
    assert list(breaking_changes(released, {"type": "record", "name": "R", "fields": after}, "R")) == ([change] if change else [])


def test_breaking_changes_within_a_named_record_are_seen() -> None:
    def holder(precision: int) -> Schema:
        percent = {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": 6}
        inner = {"type": "record", "name": "Inner", "fields": [{"name": "percent", "type": ["null", percent], "default": None}]}
        return {"type": "record", "name": "R", "fields": [{"name": "inner", "type": {"type": "array", "items": inner}}]}

    assert list(breaking_changes(holder(9), holder(18), "R")) == ["R.inner.percent has another type"]
