"""The current schemas read whatever any released version of them wrote, and history/ has every released version."""

import json
import shutil
import tomllib
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import pytest
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.utils import generate_many

from tests.support.avro_files import HISTORY, NAMESPACE, V1, Schema, current_schema, fingerprint_of
from worker import schema_changes
from worker.schema_changes import breaking_changes, breaking_changes_since_release, release_of_today, releases

RECORDS = sorted(path.stem for path in V1.glob("*/*.avsc"))


def released_schemas() -> dict[str, tuple[str, Schema]]:
    """Record and schema of each file of history/, by the file's place."""
    paths = sorted(HISTORY.glob("*/*.avsc"))
    return {path.relative_to(HISTORY).as_posix(): (path.parent.name, json.loads(path.read_text(encoding="utf-8"))) for path in paths}


RELEASED = released_schemas()


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


def test_nothing_that_was_released_is_broken() -> None:
    assert list(breaking_changes_since_release()) == []


def test_the_release_of_this_version_is_listed() -> None:
    version = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    today = json.dumps({version: release_of_today()}, indent=1)
    assert version in releases(), f"schemas/avro/releases.json must hold as well:\n{today}"


def test_a_release_is_broken_by_what_is_gone_or_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(HISTORY, tmp_path / "history")
    monkeypatch.setattr(schema_changes, "HISTORY", tmp_path / "history")
    gone = next((tmp_path / "history").glob("SLOCreated/*.avsc"))
    another = next((tmp_path / "history").glob("Violation/*.avsc"))
    place = another.relative_to(tmp_path).as_posix()
    gone.unlink()
    another.write_text(another.read_text().replace('"string"', '"bytes"', 1))
    found = list(breaking_changes_since_release())
    assert f"{place} was released and is another now" in found
    assert f"history/SLOCreated/{gone.name} was released and is gone" in found
    assert f"Violation.field has another type (since Violation/{another.stem})" in found
    assert len(found) == 4, "and the current SLOCreated is missing"
    assert sha256(another.read_bytes()).hexdigest() not in releases()["0.1.0"].values()
