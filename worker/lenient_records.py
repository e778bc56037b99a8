"""A header name that is not UTF-8 stops aiokafka at its record for ever; here it reads as one with replacement characters instead.

Kafka's protocol has header names as UTF-8 strings, and its brokers do not look. Other headers than CloudEvents' own are ignored anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

if TYPE_CHECKING:
    from collections.abc import Iterator

_LENGTH_AT, _LENGTH_ENDS = 8, 12  # after the base offset; it counts what follows it


class LenientRecords:
    """aiokafka's record batches of one fetch, by its own fast parser for as long as that can read them."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0
        self._records = MemoryRecords(data)
        self.has_next = self._records.has_next
        self.size_in_bytes = self._records.size_in_bytes

    def next_batch(self) -> Any:  # noqa: ANN401 - aiokafka is untyped
        start = self._position
        length = int.from_bytes(self._data[start + _LENGTH_AT : start + _LENGTH_ENDS], "big")
        self._position = start + _LENGTH_ENDS + length
        return _LenientBatch(self._records.next_batch(), memoryview(self._data)[start : self._position])


class _LenientBatch:
    """A batch as aiokafka has it, but for what iterating meets."""

    def __init__(self, batch: Any, data: memoryview) -> None:  # noqa: ANN401 - aiokafka is untyped
        self._batch = batch
        self._data = data

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any of the batch's
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        read = 0
        try:
            for record in self._batch:
                yield record
                read += 1
        except UnicodeDecodeError:
            again = _DefaultRecordBatchPy(self._data)
            records = iter(again)  # this uncompresses the buffer
            again._buffer = _LenientBytes(again._buffer)  # noqa: SLF001 - its decoding has no other way in
            for number, record in enumerate(records):
                if number >= read:
                    yield record


class _LenientBytes(bytes):
    """Bytes whose slices decode whatever they hold."""

    def __getitem__(self, key: Any) -> Any:  # noqa: ANN401 - as bytes has it
        part = super().__getitem__(key)
        return _LenientBytes(part) if isinstance(part, bytes) else part

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 - as bytes has it
        return super().decode(encoding, "replace")


def read_any_header_name() -> None:
    """Have every aiokafka consumer of this process read its fetches leniently."""
    fetcher.MemoryRecords = LenientRecords
