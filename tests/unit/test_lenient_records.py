"""Batches as they come from a broker, one header name of which is not UTF-8."""

from __future__ import annotations

from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from worker.lenient_records import LenientRecords


class NotUtf8(str):
    """Encodes to bytes that no UTF-8 decoder takes."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return b"\xff\xfe"


def batch(base: int, names: list[str], compression: int = 0) -> bytes:
    builder = _DefaultRecordBatchBuilderPy(2, compression, 0, -1, -1, -1, 1_000_000)
    for offset, name in enumerate(names):
        builder.append(offset, 1764000000000 + offset, b"k%d" % offset, b"v", [("ce_id", b"1"), (name, b"x")])
    data = bytearray(builder.build())
    data[:8] = base.to_bytes(8, "big")
    return bytes(data)


def read(data: bytes) -> list[tuple[int, bytes, list[tuple[str, bytes]]]]:
    records, found = LenientRecords(data), []
    while records.has_next():
        current = records.next_batch()
        assert current.validate_crc()
        found += [(record.offset, record.key, list(record.headers)) for record in current]
    return found


def test_a_name_that_is_not_utf8_is_replaced_and_nothing_else_changes() -> None:
    names = ["a", NotUtf8("b"), "é"]
    for compression in (0, 1):
        assert read(batch(0, ["good"]) + batch(1, names, compression) + batch(4, ["last"])) == [
            (0, b"k0", [("ce_id", b"1"), ("good", b"x")]),
            (1, b"k0", [("ce_id", b"1"), ("a", b"x")]),
            (2, b"k1", [("ce_id", b"1"), ("\ufffd\ufffd", b"x")]),
            (3, b"k2", [("ce_id", b"1"), ("é", b"x")]),
            (4, b"k0", [("ce_id", b"1"), ("last", b"x")]),
        ]


def test_the_end_of_a_fetch_may_be_cut() -> None:
    whole = batch(0, ["a", "b"])
    assert [offset for offset, _, _ in read(whole + batch(2, ["c"])[:-3])] == [0, 1]
