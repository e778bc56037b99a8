"""What the contract forbids from a released version of a schema to a later one (docs/contract.md, Schema evolution).

That is more than Avro's BACKWARD_TRANSITIVE forbids: what passes is read by the later version, and means what it meant.
"""

from __future__ import annotations

import json
from dataclasses import MISSING
from hashlib import sha256
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

from fastavro import parse_schema

from worker.codec import current_schemas, fingerprint
from worker.package_data import AVRO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.codec import Schema

RELEASES: Final = AVRO / "releases.json"
"""By version of the package, by `Record/fingerprint`: SHA-256 of the file in history/ that was released with it."""

HISTORY: Final = AVRO / "history"


def breaking_changes_since_release() -> Iterator[str]:
    """What the current schemas, or files of history/, have that no release allows; nothing where all is well."""
    current = current_schemas()
    released = {place: digest for listed in releases().values() for place, digest in listed.items()}
    for place, digest in released.items():
        file = HISTORY / f"{place}.avsc"
        if not file.is_file():
            yield f"history/{place}.avsc was released and is gone"
        elif sha256(file.read_bytes()).hexdigest() != digest:
            yield f"history/{place}.avsc was released and is another now"
    for file in sorted(HISTORY.glob("*/*.avsc")):
        name = file.parent.name
        if name not in current:
            yield f"{name} was removed"
        else:
            for change in breaking_changes(comparable(json.loads(file.read_text(encoding="utf-8"))), comparable(current[name]), name):
                yield f"{change} (since {name}/{file.stem})"
    for name, schema in current.items():
        place = f"{name}/{fingerprint(schema).hex()}"
        if not (HISTORY / f"{place}.avsc").is_file():
            yield f"history/{place}.avsc is missing"


def releases() -> dict[str, dict[str, str]]:
    """By version, oldest first."""
    listed: dict[str, dict[str, str]] = json.loads(RELEASES.read_text(encoding="utf-8"))
    return listed


def release_of_today() -> dict[str, str]:
    """What a release of the schemas as they are now is listed as."""
    places = [f"{name}/{fingerprint(schema).hex()}" for name, schema in current_schemas().items()]
    return {place: sha256((HISTORY / f"{place}.avsc").read_bytes()).hexdigest() for place in places}


def breaking_changes(released: Any, current: Any, where: str) -> Iterator[str]:  # noqa: ANN401 - types of any kind
    match released, current:
        case {"type": "record", "fields": before}, {"type": "record", "fields": after} if released["name"] == current["name"]:
            yield from _breaking_fields(before, after, where)
        case {"type": "array", "items": before}, {"type": "array", "items": after}:
            yield from breaking_changes(before, after, where)
        case [*before], [*after] if len(before) == len(after):
            for one, other in zip(before, after, strict=True):
                yield from breaking_changes(one, other, where)
        case _ if released != current:
            yield f"{where} has another type"


def comparable(schema: Schema) -> Schema:
    """Without descriptions, which anybody may change, and with all names in full. Raises whatever fastavro does of what is no schema."""
    plain: Schema = _undescribed(parse_schema(schema))
    return plain


def _undescribed(node: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(node, dict):
        return {key: _undescribed(value) for key, value in node.items() if key != "doc" and not key.startswith("__")}
    return [_undescribed(item) for item in node] if isinstance(node, list) else node


def _breaking_fields(released: list[Schema], current: list[Schema], where: str) -> Iterator[str]:
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
