"""What malloc keeps in fastbins, asked of glibc itself, in a process of its own: it is a setting of the whole process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FASTBIN_BYTES = """
import ctypes
import sys

from worker.memory import merge_freed_at_once

class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

if sys.argv[1] == "merged":
    merge_freed_at_once()
libc = ctypes.CDLL(None)
mallinfo, malloc, free = libc.mallinfo2, libc.malloc, libc.free
mallinfo.restype, malloc.restype, free.argtypes = Mallinfo, ctypes.c_void_p, [ctypes.c_void_p]
mallinfo()
chunks = [malloc(64) for _ in range(1_000)]  # kept until the end: whatever is larger and freed before the count merges all
for chunk in chunks:
    free(chunk)
kept = mallinfo().fsmblks
print(kept)
"""


def fastbin_bytes(how: str) -> int:
    """After a thousand chunks were freed, of which a thread's own cache takes a few."""
    return int(subprocess.run([sys.executable, "-c", FASTBIN_BYTES, how], check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc has no fastbins, and is left as it is")
def test_what_is_freed_is_merged_at_once() -> None:
    assert fastbin_bytes("as it is") > 0
    assert fastbin_bytes("merged") == 0
