"""The value of an intent: every schema, in single-object encoding and in Confluent framing.

Input: a byte that names the intent, one that names the framing (0: single-object, 1: Confluent, 2: none is put before), then the datum.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.support.records import CODEC, NOW
from worker.codec import DecodeError
from worker.domain.aggregate import AGGREGATES
from worker.domain.outcome import Context
from worker.domain.parsing import parse_command
from worker.domain.rejection import Rejection, RejectionCode
from worker.package_data import AVRO
from worker.registry import WriterIds

if TYPE_CHECKING:
    from collections.abc import Iterator

INTENTS = tuple((aggregate, name) for aggregate in AGGREGATES.values() for name in sorted(aggregate.intents))
_SUBJECTS = {"incident": "0b7c6a52-5d0e-4c1b-9f0e-2a6f5d0c9a11", "runbook": "restart", "slo": "checkout"}
_HOSTILE_SCHEMAS = ("", "null", "7", "[" * 5_000, '{"type": "record"}', '{"type": "array", "items": "null"}', '{"type": {"type": []}}')


def _text_of(schema_id: int) -> str | None:
    """Ids from 0 on are the current schemas of the intents; what else a registry may say lies from 1,000 on."""
    if schema_id < len(INTENTS):
        return (AVRO / "sre" / "core" / "v1" / "intents" / f"{INTENTS[schema_id][1]}.avsc").read_text(encoding="utf-8")
    if 1_000 <= schema_id < 1_000 + len(_HOSTILE_SCHEMAS):
        return _HOSTILE_SCHEMAS[schema_id - 1_000]
    return None


_CODEC = replace(CODEC, writer_of_id=WriterIds(_text_of, {writer for _, writer in CODEC.released}).asked)


def check(data: bytes) -> None:
    if len(data) < 2:
        return
    number = data[0] % len(INTENTS)
    aggregate, name = INTENTS[number]
    subject = _SUBJECTS.get(aggregate.name, _SUBJECTS["incident"])
    framing = (CODEC.headers[name], b"\x00" + number.to_bytes(4, "big"), b"")[data[1] % 3]
    try:
        fields = _CODEC.decode(name, framing + data[2:])
    except DecodeError:
        return
    command = parse_command(aggregate, name, fields, subject)
    if isinstance(command, Rejection):
        assert command.code in RejectionCode
        assert command.violations
        return
    unfit = aggregate.check(command, Context("acme", subject, NOW))
    assert unfit is None or unfit.code in RejectionCode
    again = parse_command(aggregate, name, _CODEC.decode(name, _CODEC.encode(name, command)), subject)
    assert again == command, "a command is another one once it was written and read"


def seeds() -> Iterator[bytes]:
    for number, (_, name) in enumerate(INTENTS):
        for framing in range(2):
            yield bytes([number, framing]) + smallest(CODEC.current[name])
    yield bytes([0, 2]) + b"\x00\x00\x00\x03\xe8"


def smallest(schema: object) -> bytes:
    """A datum of a schema, with `a` for every text."""
    match schema:
        case {"type": "record", "fields": fields}:
            return b"".join(smallest(field["type"]) for field in fields)
        case {"type": inner} if inner not in ("array", "map"):
            return smallest(inner)
        case "string" | "bytes":
            return b"\x02a"
        case [*_]:
            return b"\x00"
        case str() if schema.startswith("sre.core.v1."):
            return smallest(json.loads((AVRO / "sre" / "core" / "v1" / "types" / f"{schema.rpartition('.')[2]}.avsc").read_text()))
        case _:
            return b"\x00"
