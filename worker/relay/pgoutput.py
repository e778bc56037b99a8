"""pgoutput, protocol version 1 with `binary 'true'`: bytes from the WAL in, values out.

Source: PostgreSQL manual, "Logical Replication Message Formats". Every decoder accounts for every byte of its message and raises
ProtocolError otherwise.
"""

from __future__ import annotations

from struct import Struct, error
from typing import TYPE_CHECKING, Final, NamedTuple

from worker.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_BEGIN: Final = Struct("!cQqI")
_COMMIT: Final = Struct("!cBQQq")
_RELATION: Final = Struct("!cI")
_COLUMNS: Final = Struct("!BH")
_COLUMN: Final = Struct("!II")
_INSERT: Final = Struct("!cIcH")
_FIELD: Final = Struct("!BI")
_NULL, _BINARY = ord("n"), ord("b")


class ProtocolError(WorkerError):
    """The bytes are no message of pgoutput as this relay asks for it."""


class Begin(NamedTuple):
    """The LSN at which the transaction's commit record starts: below the end LSN of its Commit.

    `committed_us` is when it committed, by the server's clock, in microseconds since 2000-01-01 UTC.
    """

    commit_lsn: int
    committed_us: int


class Commit(NamedTuple):
    """`end_lsn` is one past the commit record: the position that holds the whole transaction and nothing later."""

    commit_lsn: int
    end_lsn: int


class Column(NamedTuple):
    name: str
    type_oid: int


class Relation(NamedTuple):
    """The shape of the Inserts that follow, until another Relation with this oid."""

    oid: int
    namespace: str
    name: str
    columns: tuple[Column, ...]


class Insert(NamedTuple):
    """One row: the binary form of each value in the order of the relation's columns, None for null."""

    relation_oid: int
    values: list[bytes | None]


class Ignored(NamedTuple):
    """A message that the protocol has and that no insert-only publication needs: Origin, Type, Update, Delete, Truncate, Message."""

    kind: str


Message = Begin | Commit | Relation | Insert | Ignored


def decode(message: bytes) -> Message:
    """Raises ProtocolError where the message is of an unknown kind, cut short, or longer than it says."""
    decoder = _DECODERS.get(message[:1])
    if decoder is None:
        raise ProtocolError(f"pgoutput has no message of kind {message[:1]!r} in protocol version 1")
    try:
        return decoder(message)
    except (error, IndexError, UnicodeDecodeError) as fault:
        raise ProtocolError(f"a message {message[:1]!r} of {len(message)} bytes is malformed: {fault}") from fault


def _begin(message: bytes) -> Begin:
    _kind, commit_lsn, committed_us, _xid = _BEGIN.unpack(message)
    return Begin(commit_lsn, committed_us)


def _commit(message: bytes) -> Commit:
    _kind, _flags, commit_lsn, end_lsn, _micros = _COMMIT.unpack(message)
    return Commit(commit_lsn, end_lsn)


def _relation(message: bytes) -> Relation:
    _kind, oid = _RELATION.unpack_from(message)
    namespace, position = _string(message, _RELATION.size)
    name, position = _string(message, position)
    _replica_identity, count = _COLUMNS.unpack_from(message, position)
    position += _COLUMNS.size
    columns = []
    for _ in range(count):
        column, position = _string(message, position + 1)  # past its flags
        type_oid, _modifier = _COLUMN.unpack_from(message, position)
        columns.append(Column(column, type_oid))
        position += _COLUMN.size
    _must_end(message, position)
    return Relation(oid, namespace, name, tuple(columns))


def _insert(message: bytes) -> Insert:
    # The hot path: one call a row, one turn a column.
    _kind, relation_oid, new, count = _INSERT.unpack_from(message)
    if new != b"N":
        raise ProtocolError(f"an Insert carries {new!r} in place of a new row")
    values: list[bytes | None] = []
    append, unpack_field = values.append, _FIELD.unpack_from
    position = _INSERT.size
    for _ in range(count):
        if message[position] == _NULL:
            append(None)
            position += 1
            continue
        kind, length = unpack_field(message, position)
        if kind != _BINARY:
            raise ProtocolError(f"column {len(values)} of an Insert comes as {chr(kind)!r}, not in binary")
        start = position + 5
        position = start + length
        append(message[start:position])
    _must_end(message, position)
    return Insert(relation_oid, values)


def _ignored(message: bytes) -> Ignored:
    return Ignored(chr(message[0]))


def _string(message: bytes, start: int) -> tuple[str, int]:
    """The zero-terminated text at `start`, and the position after its zero."""
    end = message.find(b"\x00", start)
    if end < 0:
        raise ProtocolError("a text has no end")
    return message[start:end].decode(), end + 1


def _must_end(message: bytes, position: int) -> None:
    if position != len(message):
        raise ProtocolError(f"a message {message[:1]!r} of {len(message)} bytes accounts for {position}")


_DECODERS: Final[Mapping[bytes, Callable[[bytes], Message]]] = {
    b"I": _insert,
    b"B": _begin,
    b"C": _commit,
    b"R": _relation,
    **dict.fromkeys((b"O", b"Y", b"U", b"D", b"T", b"M"), _ignored),
}
