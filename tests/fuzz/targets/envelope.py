"""Headers, key and value of a record: receive(), and the rejection that may come of it.

Input: topic, key and headers, separated by RS, each header's name and value by US (without US it is null), then GS and the value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fuzz.oracles import verdict_of
from tests.support.records import CODEC, NOW, create, window
from worker.client import Intent, to_outgoing
from worker.domain.aggregate import AGGREGATES, intent_name
from worker.envelope import Record
from worker.topics import intents_topic

if TYPE_CHECKING:
    from collections.abc import Iterator

_RS, _US, _GS = b"\x1e", b"\x1f", b"\x1d"
_NAMES = tuple(AGGREGATES)


def check(data: bytes) -> None:
    verdict_of(record_of(data))


def record_of(data: bytes) -> Record:
    head, has_value, value = data.partition(_GS)
    aggregate, *parts = head.split(_RS)
    topic = intents_topic(_NAMES[sum(aggregate) % len(_NAMES)])
    key = parts[0] if parts else None
    headers = [_header(part) for part in parts[1:]]
    return Record(topic, 3, 4711, int(NOW.timestamp() * 1000), key, value if has_value else None, headers)


def _header(part: bytes) -> tuple[str, bytes | None]:
    name, has_value, value = part.partition(_US)
    return name.decode(errors="replace"), value if has_value else None


def data_of(aggregate: str, key: bytes, headers: Iterator[tuple[str, bytes]], value: bytes) -> bytes:
    number = bytes([_NAMES.index(aggregate)])
    return _RS.join([number, key, *(name.encode() + _US + text for name, text in headers)]) + _GS + value


def seeds() -> Iterator[bytes]:
    for command in (create(), window(3)):
        intent = Intent(intent_name(type(command)), "acme", "checkout", command, "/tests", intent_id="one", time=NOW)
        outgoing = to_outgoing(intent, CODEC)
        yield data_of("slo", outgoing.key, iter(outgoing.headers), outgoing.value)
