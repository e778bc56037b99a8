"""The .avsc files of a checkout, as the tests read them."""

import json
from typing import Any, TypeAlias

from fastavro import parse_schema
from fastavro.repository import AbstractSchemaRepository
from fastavro.schema import fingerprint, load_schema, to_parsing_canonical_form

from worker.package_data import AVRO

NAMESPACE = "sre.core.v1"
V1 = AVRO / "sre" / "core" / "v1"
HISTORY = AVRO / "history"

Schema: TypeAlias = dict[str, Any]
Type: TypeAlias = Any  # a schema or a part of one: any JSON


def read_file(name: str) -> Schema:
    (path,) = V1.glob(f"*/{name}.avsc")
    schema: Schema = json.loads(path.read_text(encoding="utf-8"))
    return schema


def without(node: Type, *keys: str) -> Type:
    if isinstance(node, dict):
        return {key: without(value, *keys) for key, value in node.items() if key not in keys}
    return [without(item, *keys) for item in node] if isinstance(node, list) else node


class Files(AbstractSchemaRepository):
    """The .avsc files as fastavro looks them up when one record names another."""

    def load(self, name: str) -> Schema:
        return read_file(name.removeprefix(f"{NAMESPACE}."))


def current_schema(name: str) -> Schema:
    """The schema with the records it names written out where they are first named, as history/ keeps it: without docs."""
    schema: Schema = without(load_schema(f"{NAMESPACE}.{name}", repo=Files()), "doc", "__fastavro_parsed", "__named_schemas")
    return schema


def fingerprint_of(schema: Schema) -> str:
    return fingerprint(to_parsing_canonical_form(parse_schema(schema)), "CRC-64-AVRO")
