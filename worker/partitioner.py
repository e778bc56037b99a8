"""Which partition a record belongs in: Kafka's own murmur2 of a key, the same in every client's default partitioner."""

from functools import lru_cache

from aiokafka.partitioner import murmur2


@lru_cache(maxsize=100_000)  # murmur2 in Python costs more than the rest of a fact; the same aggregates come again and again
def partition_of(key: bytes | None, partitions: int) -> int:
    """`(murmur2(key) & 0x7fffffff) mod partitions`; no key lies in partition 0."""
    return 0 if key is None else int((murmur2(key) & 0x7FFFFFFF) % partitions)
