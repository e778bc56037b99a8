"""Which partition a record belongs in: Kafka's own murmur2 of a key, the same in every client's default partitioner."""

from functools import lru_cache
from struct import unpack_from
from typing import Final

from aiokafka.partitioner import murmur2

_LONG: Final = 256  # bytes; no aggregate's key is longer
_M: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF


def partition_of(key: bytes | None, partitions: int) -> int:
    """`(murmur2(key) & 0x7fffffff) mod partitions`; no key lies in partition 0."""
    if key is None:
        return 0
    digest = _murmur2_of_short(key) if len(key) <= _LONG else murmur2_of_long(key)
    return int((digest & 0x7FFFFFFF) % partitions)


# murmur2 in Python costs more than the rest of a fact, and the same aggregates come again and again. Full, this takes 30 MiB.
@lru_cache(maxsize=100_000)
def _murmur2_of_short(key: bytes) -> int:
    return int(murmur2(key))


def murmur2_of_long(key: bytes) -> int:
    """The same as aiokafka's in half the time and not remembered: a stranger's key may have a megabyte. Source: Kafka, `Utils.murmur2`."""
    words, rest = divmod(len(key), 4)
    digest = 0x9747B28C ^ len(key)
    for word in unpack_from(f"<{words}I", key):
        mixed = word * _M & _MASK
        digest = digest * _M & _MASK ^ (mixed ^ mixed >> 24) * _M & _MASK
    if rest:
        digest = (digest ^ int.from_bytes(key[-rest:], "little")) * _M & _MASK
    digest = (digest ^ digest >> 13) * _M & _MASK
    return digest ^ digest >> 15
