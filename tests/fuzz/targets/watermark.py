"""What lies in the relay's topic of watermarks, as value and as key."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from worker.relay.replication import Identity
from worker.relay.watermark import Watermark, WatermarkError, decode, encode, key_of, published_up_to

if TYPE_CHECKING:
    from collections.abc import Iterator

_HERE = Identity(system="7412", timeline=2, flushed_lsn=5_000, database="sre")
_KEY = key_of(_HERE, "sre_outbox")


def check(data: bytes) -> None:
    with suppress(WatermarkError):
        assert 0 <= published_up_to({_KEY: data}, _HERE, "sre_outbox") <= _HERE.flushed_lsn
    with suppress(WatermarkError):
        assert published_up_to({data: encode(Watermark(2, 1_000))}, _HERE, "sre_outbox") in (0, 1_000)
    try:
        watermark = decode(data)
    except WatermarkError:
        return
    assert decode(encode(watermark)) == watermark


def seeds() -> Iterator[bytes]:
    yield encode(Watermark(timeline=2, lsn=0x16_B374D848, topics={"sre.slo.facts.v1": "eZIY1GpmSGqhKgyU03pfCw"}))
    yield encode(Watermark(timeline=2, lsn=1_000, in_doubt=True))
    yield encode(Watermark(timeline=2, lsn=1_000, handed_to="sre_debezium"))
    yield b"7411/sre/sre_outbox"
