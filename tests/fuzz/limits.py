"""What one input may cost: 100 ms of the processor and 64 MB of memory."""

from __future__ import annotations

import resource
import sys
import time
import tracemalloc
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

CPU_SECONDS: Final = 0.1
MEMORY_BYTES: Final = 64 * 2**20
_TRIES: Final = 3  # a neighbour on the same core makes one slow


class TooMuchError(Exception):
    """An input costs more than it may."""


def check_within_limits(check: Callable[[bytes], None], data: bytes) -> None:
    """Raises whatever the check raises, and TooMuchError; for code that is not instrumented."""
    seconds = min(_cpu_seconds(check, data) for _ in range(_TRIES))
    if seconds > CPU_SECONDS:
        raise TooMuchError(f"{seconds:.3f} s of the processor for {len(data)} bytes")
    tracemalloc.start()
    try:
        check(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    if peak > MEMORY_BYTES:
        raise TooMuchError(f"{peak / 2**20:.0f} MiB of memory for {len(data)} bytes")


def _cpu_seconds(check: Callable[[bytes], None], data: bytes) -> float:
    began = time.process_time()
    check(data)
    return time.process_time() - began


def peak_bytes() -> int:
    """The most memory that this process ever had, what libraries in C and Rust took included."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
