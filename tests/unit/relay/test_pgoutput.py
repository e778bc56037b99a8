"""pgoutput messages as the PostgreSQL manual lays them out, byte by byte."""

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.relay.pgoutput import Begin, Column, Commit, Ignored, Insert, Message, ProtocolError, Relation, decode

BEGIN = bytes.fromhex("42 00000000016B3748 0003040200B0CE1C 0000030F")
COMMIT = bytes.fromhex("43 00 00000000016B3748 00000000016B3778 0003040200B0CE1C")
RELATION = bytes.fromhex("52 0000403B") + b"public\0outbox\0d" + bytes.fromhex("0002 00") + (
    b"id\0" + bytes.fromhex("00000B86 FFFFFFFF 00") + b"payload\0" + bytes.fromhex("00000011 FFFFFFFF")
)  # fmt: skip
INSERT = bytes.fromhex("49 0000403B 4E 0003 62 00000002 C301 6E 62 00000000")
ONE_OF_EACH = (BEGIN, COMMIT, RELATION, INSERT)


@pytest.mark.parametrize(
    ("message", "meaning"),
    [
        (BEGIN, Begin(commit_lsn=0x16B3748, committed_us=848_831_578_164_764)),
        (COMMIT, Commit(commit_lsn=0x16B3748, end_lsn=0x16B3778)),
        (RELATION, Relation(0x403B, "public", "outbox", (Column("id", 2950), Column("payload", 17)))),
        (INSERT, Insert(0x403B, [b"\xc3\x01", None, b""])),
    ],
)
def test_a_message_is_read_as_the_manual_writes_it(message: bytes, meaning: Message) -> None:
    assert decode(message) == meaning


@pytest.mark.parametrize("kind", list("OYUDTM"))
def test_a_message_that_an_insert_only_publication_does_not_need_is_passed_over(kind: str) -> None:
    assert decode(kind.encode() + b"whatever it holds") == Ignored(kind)


@pytest.mark.parametrize("message", [b"", b"S\0\0\0\1\1", b"b", b"?", b"i" + INSERT[1:]])
def test_an_unknown_kind_is_an_error(message: bytes) -> None:
    with pytest.raises(ProtocolError, match="no message of kind"):
        decode(message)


@pytest.mark.parametrize("message", ONE_OF_EACH)
def test_a_message_that_is_cut_short_anywhere_is_an_error(message: bytes) -> None:
    for end in range(1, len(message)):
        with pytest.raises(ProtocolError):
            decode(message[:end])


@pytest.mark.parametrize("message", ONE_OF_EACH)
def test_a_byte_too_many_is_an_error(message: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(message + b"\0")


def test_a_length_beyond_the_message_is_an_error() -> None:
    with pytest.raises(ProtocolError, match="accounts for"):
        decode(bytes.fromhex("49 0000403B 4E 0001 62 7FFFFFFF 00"))


@pytest.mark.parametrize("kind", [b"t", b"u", b"x"])
def test_a_value_that_is_not_binary_is_an_error(kind: bytes) -> None:
    with pytest.raises(ProtocolError, match="not in binary"):
        decode(INSERT[:8] + kind + INSERT[9:])


def test_an_insert_without_a_new_row_is_an_error() -> None:
    with pytest.raises(ProtocolError, match="new row"):
        decode(INSERT[:5] + b"K" + INSERT[6:])


@given(st.integers(0, 2**32 - 1), st.lists(st.none() | st.binary(max_size=300), max_size=30))
def test_an_insert_survives_the_way(oid: int, values: list[bytes | None]) -> None:
    fields = (b"n" if value is None else pack("!cI", b"b", len(value)) + value for value in values)
    assert decode(pack("!cIcH", b"I", oid, b"N", len(values)) + b"".join(fields)) == Insert(oid, values)


NAMES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=63)
OIDS = st.integers(0, 2**32 - 1)


@given(OIDS, NAMES, NAMES, st.lists(st.builds(Column, NAMES, OIDS), max_size=20).map(tuple))
def test_a_relation_survives_the_way(oid: int, namespace: str, name: str, columns: tuple[Column, ...]) -> None:
    head = pack("!cI", b"R", oid) + namespace.encode() + b"\0" + name.encode() + b"\0" + pack("!BH", ord("d"), len(columns))
    body = (b"\1" + column.name.encode() + b"\0" + pack("!Ii", column.type_oid, -1) for column in columns)
    assert decode(head + b"".join(body)) == Relation(oid, namespace, name, columns)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1))
def test_positions_use_all_their_64_bits(commit_lsn: int, end_lsn: int, micros: int) -> None:
    assert decode(pack("!cQqI", b"B", commit_lsn, micros, 7)) == Begin(commit_lsn, micros)
    assert decode(pack("!cBQQq", b"C", 0, commit_lsn, end_lsn, micros)) == Commit(commit_lsn, end_lsn)
