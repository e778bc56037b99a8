"""A small file system that can be filled without harm to anything else, where this process may mount one."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CLONE_NEWNS: Final = 0x20000  # sched.h
_MS_REC_PRIVATE: Final = 0x4000 | 1 << 18  # sys/mount.h
_MNT_DETACH: Final = 2


def own_mounts() -> bool:
    """Mounts made from now on end with this process and its children; to be called before it has threads. Whether it may mount at all."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.unshare(_CLONE_NEWNS) == 0 and libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC_PRIVATE), None) == 0)


@contextmanager
def small_disk(directory: Path, mebibytes: int) -> Iterator[Path | None]:
    """A tmpfs of that size at `directory`; None where it can't be mounted."""
    directory.mkdir()
    options = f"size={mebibytes}m,mode=755".encode()
    libc = ctypes.CDLL(None)
    if libc.mount(b"tmpfs", bytes(directory), b"tmpfs", ctypes.c_ulong(0), options) != 0:
        yield None
        return
    try:
        yield directory
    finally:
        libc.umount2(bytes(directory), _MNT_DETACH)
