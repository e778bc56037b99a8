"""What a server streams to the relay: one message, and the record that an Insert makes."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING
from uuid import UUID

from worker.relay.pgoutput import Begin, Column, Commit, Ignored, Insert, ProtocolError, Relation, decode
from worker.relay.record import _COLUMNS, OutboxShapeError, Record, record_maker

if TYPE_CHECKING:
    from collections.abc import Iterator

OUTBOX = Relation(16_400, "public", "outbox", tuple(Column(name, oids[0]) for name, oids in _COLUMNS.items()))
_MAKE = record_maker(OUTBOX)


def check(data: bytes) -> None:
    try:
        message = decode(data)
    except ProtocolError:
        return
    assert isinstance(message, Begin | Commit | Relation | Insert | Ignored)
    try:
        if isinstance(message, Relation):
            record_maker(message)
        elif isinstance(message, Insert):
            assert isinstance(_MAKE(message.values), Record)
    except OutboxShapeError:
        return


def insert(values: list[bytes | None]) -> bytes:
    fields = b"".join(b"n" if value is None else b"b" + len(value).to_bytes(4, "big") + value for value in values)
    return struct.pack("!cIcH", b"I", OUTBOX.oid, b"N", len(values)) + fields


def relation(shape: Relation) -> bytes:
    columns = b"".join(b"\x00" + column.name.encode() + b"\x00" + struct.pack("!II", column.type_oid, 0) for column in shape.columns)
    names = f"{shape.namespace}\0{shape.name}\0".encode()
    return struct.pack("!cI", b"R", shape.oid) + names + struct.pack("!BH", ord("d"), len(shape.columns)) + columns


def seeds() -> Iterator[bytes]:
    yield struct.pack("!cQqI", b"B", 1, 2, 3)
    yield struct.pack("!cBQQq", b"C", 0, 1, 2, 3)
    yield relation(OUTBOX)
    yield b"T\x00\x00\x00\x01\x00\x00\x00\x01"
    texts = [UUID(int=7).bytes, b"sre.core.v1.SLOCreated", b"2026-03-02T00:00:00.000000Z", b"checkout", b"acme", b"one", b"one"]
    yield insert([*texts, None, None, None, b"slo", b"checkout", (1).to_bytes(8, "big"), b"sre.slo.facts.v1", bytes(4), b"k", b"\xc3\x01"])
