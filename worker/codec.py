"""Avro both ways: single-object encoding, and Confluent framing where a registry is set (worker/registry.py).

Sources: Avro 1.12 specification, "Single-object encoding" and "Schema fingerprints"; Confluent wire format. Decoding is strict: the
writer schema is one of the released ones of the record asked for, and every byte is consumed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from io import BytesIO
from operator import attrgetter
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Final, Union, get_args, get_origin, get_type_hints

from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.schema import fingerprint as fingerprint_of
from fastavro.schema import to_parsing_canonical_form

from worker.domain.fields import EPOCH, PERCENT_PLACES
from worker.package_data import AVRO

if TYPE_CHECKING:
    from pathlib import Path

NAMESPACE: Final = "sre.core.v1"
SINGLE_OBJECT: Final = b"\xc3\x01"
CONFLUENT: Final = b"\x00"
ID_BYTES: Final = 4
_MICROSECOND: Final = timedelta(microseconds=1)
_LONGER_THAN_64_BITS: Final = re.compile(rb"[\x80-\xff]{9}[^\x00\x01]")  # or text in another script

Schema = dict[str, Any]
Convert = Callable[[Any], Any]
WriterOfId = Callable[[int], bytes | None]
"""The fingerprint of a registry's schema by its id, None for what is no Avro; raises KeyError where there is none."""


class DecodeError(ValueError):
    """The bytes are not a datum of the record asked for; the message says why."""


class SchemaUnseenError(Exception):
    """The registry has to be asked about this id first, and whoever decodes may not wait for it."""

    def __init__(self, schema_id: int) -> None:
        super().__init__(schema_id)
        self.schema_id = schema_id


@dataclass(frozen=True, slots=True)
class Codec:
    """Released schemas by (record, fingerprint) and current ones by record, all without logical types; `headers` frame a value.

    A header of Confluent framing is looked up when it is first asked for: that raises what worker/registry.py says.
    """

    released: Mapping[tuple[str, bytes], Schema]
    current: Mapping[str, Schema]
    headers: Mapping[str, bytes]
    writer_of_id: WriterOfId | None = None

    def decode(self, record: str, value: bytes) -> dict[str, Any]:
        """The datum, with longs and bytes as they lie on the wire. Raises DecodeError, whatever the bytes are.

        With Confluent framing also SchemaUnseenError or worker.registry.RegistryAwayError, where nobody can say yet.
        """
        if value[:2] == SINGLE_OBJECT:
            writer, start = value[2:10], 10
        elif value[:1] == CONFLUENT and self.writer_of_id is not None:
            writer, start = self._fingerprint_of_id(value[1 : 1 + ID_BYTES]), 1 + ID_BYTES
        else:
            raise DecodeError("is not framed as Avro single-object encoding")
        schema = self.released.get((record, writer))
        if schema is None:
            raise DecodeError(f"was not written with a released schema of {record}")
        reader = self.current[record]
        datum = BytesIO(value) if _LONGER_THAN_64_BITS.search(value) is None else _Numbers64Bits(value)
        datum.seek(start)
        try:
            decoded = schemaless_reader(datum, schema, reader if reader is not schema else None)
        except Exception as error:  # noqa: BLE001 - a decoder meets garbage with whatever its last step raises
            raise DecodeError(f"is not a datum of {record}: {type(error).__name__}") from None
        if datum.tell() != len(value):
            raise DecodeError(f"has {len(value) - datum.tell()} bytes after its datum")
        if not isinstance(decoded, dict):
            raise DecodeError(f"is not a datum of {record}")
        return decoded

    def without(self, missing: Collection[int]) -> Codec:
        """The codec that knows of these ids that the registry does not have them."""
        writer_of_id = self.writer_of_id
        if not missing or writer_of_id is None:
            return self

        def writer(schema_id: int) -> bytes | None:
            try:
                return writer_of_id(schema_id)
            except SchemaUnseenError:
                if schema_id in missing:
                    raise KeyError(schema_id) from None
                raise

        return replace(self, writer_of_id=writer)

    def encode(self, record: str, datum: object) -> bytes:
        """A dataclass of the domain in the current schema, framed."""
        datatype: Any = type(datum)
        convert = _converter(datatype)
        if convert is None:
            raise TypeError("a message is a dataclass")
        out = BytesIO()
        out.write(self.headers[record])
        schemaless_writer(out, self.current[record], convert(datum))
        return out.getvalue()

    def _fingerprint_of_id(self, schema_id: bytes) -> bytes:
        if self.writer_of_id is None or len(schema_id) < ID_BYTES:
            raise DecodeError("is cut short")
        try:
            writer = self.writer_of_id(int.from_bytes(schema_id, "big"))
        except KeyError:
            raise DecodeError("names a schema that the registry does not have") from None
        if writer is None:
            raise DecodeError("names a schema of the registry that is no Avro schema")
        return writer


def load_codec() -> Codec:
    """Read the .avsc files: the current schemas and, under history/, every released one."""
    schemas = current_schemas()
    current = {name: _parsed(_without_logical_types(schema)) for name, schema in schemas.items()}
    fingerprints = {name: fingerprint(schema) for name, schema in schemas.items()}
    readers = {(name, fingerprints[name]): schema for name, schema in current.items()}
    for name, released in released_schemas():
        readers.setdefault((name, fingerprint(released)), _parsed(_without_logical_types(released)))
    headers = {name: SINGLE_OBJECT + mark for name, mark in fingerprints.items()}
    return Codec(readers, current, headers)


def current_schemas() -> dict[str, Schema]:
    """Every record's schema, the records that it names written out where they are first named."""
    paths: Iterable[Path] = (AVRO / "sre" / "core" / "v1").glob("*/*.avsc")
    sources = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    return {name: _resolve(name, sources) for name in sorted(sources)}


def released_schemas() -> Iterator[tuple[str, Schema]]:
    """Record and schema of every version that was ever released, written out as current_schemas() does, without descriptions."""
    for path in sorted((AVRO / "history").glob("*/*.avsc")):
        yield path.parent.name, json.loads(path.read_text(encoding="utf-8"))


def fingerprint(schema: Any) -> bytes:  # noqa: ANN401 - any JSON
    """CRC-64-AVRO of the canonical form, little-endian, as the framing has it. Raises whatever fastavro does of what is no schema."""
    return bytes.fromhex(fingerprint_of(to_parsing_canonical_form(parse_schema(schema)), "CRC-64-AVRO"))


class _Numbers64Bits(BytesIO):
    """Raises ValueError in a number that goes on past 64 bits, which fastavro would cut: a number is read byte by byte."""

    _continued = 0

    def read(self, size: int | None = -1) -> bytes:
        part = super().read(size)
        if self._continued == 9 and part > b"\x01":  # noqa: PLR2004 - bytes that hold the first 63 bits
            raise ValueError("a number has more than 64 bits")
        self._continued = self._continued + 1 if size == 1 and part >= b"\x80" else 0
        return part


@cache
def _converter(declared: Any) -> Convert | None:  # noqa: ANN401 - any annotation
    """What fastavro takes for values of a declared type, other than None; None where that is the value itself.

    Dataclasses as dicts, times as microseconds, decimals as their unscaled bytes: a third of what fastavro's logical types cost.
    """
    if is_dataclass(declared):
        return _record_converter(declared)
    if get_origin(declared) is tuple:
        convert_item = _converter(get_args(declared)[0])
        return list if convert_item is None else lambda items: [convert_item(item) for item in items]
    if get_origin(declared) in (Union, UnionType):
        (convert,) = {_converter(member) for member in get_args(declared) if member is not NoneType}
        return convert
    scalars: dict[Any, Convert] = {datetime: _micros, Decimal: _unscaled_bytes}
    return scalars.get(declared)


def _record_converter(datatype: Any) -> Convert:  # noqa: ANN401 - any dataclass
    declared = get_type_hints(datatype)
    names = tuple(field.name for field in fields(datatype))
    values_of = attrgetter(*names) if len(names) > 1 else lambda value: (getattr(value, names[0]),)
    converters = tuple((name, convert) for name in names if (convert := _converter(declared[name])) is not None)

    def convert_record(value: Any) -> dict[str, Any]:  # noqa: ANN401 - one of the datatype
        record = dict(zip(names, values_of(value)))  # noqa: B905 - it has them all
        for name, convert in converters:
            item = record[name]
            if item is not None:
                record[name] = convert(item)
        return record

    return convert_record


def _micros(time: datetime) -> int:
    return (time - EPOCH) // _MICROSECOND


def _unscaled_bytes(percent: Decimal) -> bytes:
    scaled = percent.scaleb(PERCENT_PLACES)
    unscaled = int(scaled)
    if unscaled != scaled:
        raise ValueError(f"{percent} has more than {PERCENT_PLACES} digits after the point")
    return unscaled.to_bytes(unscaled.bit_length() // 8 + 1, "big", signed=True)


def _resolve(name: str, sources: Mapping[str, Schema]) -> Schema:
    """The schema with every record it names written out in the place where it is first named."""
    written: set[str] = set()

    def expand(node: Any) -> Any:  # noqa: ANN401 - any JSON
        if isinstance(node, str) and node.startswith(f"{NAMESPACE}."):
            short = node.removeprefix(f"{NAMESPACE}.")
            return node if short in written else expand(sources[short])
        if isinstance(node, list):
            return [expand(item) for item in node]
        if isinstance(node, dict):
            if node.get("type") == "record":
                written.add(node["name"])
            return {key: expand(item) if key in ("type", "fields", "items", "values") else item for key, item in node.items()}
        return node

    resolved: Schema = expand(sources[name])
    return resolved


def _parsed(schema: Schema) -> Schema:
    parsed = parse_schema(schema)
    if not isinstance(parsed, dict):
        raise TypeError("a message is a record")
    return parsed


def _without_logical_types(node: Any) -> Any:  # noqa: ANN401 - any JSON
    # fastavro rounds decimals and overflows on far times; the field types of the domain refuse both.
    if isinstance(node, list):
        return [_without_logical_types(item) for item in node]
    if isinstance(node, dict):
        return {key: _without_logical_types(item) for key, item in node.items() if key not in ("logicalType", "precision", "scale")}
    return node
