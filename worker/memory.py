"""What Python and malloc do with memory on the hot path: nothing that brings nothing."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress
from typing import Final

_M_MXFAST: Final = 1  # malloc.h


def collect_rarely() -> None:
    """A batch or a group makes tens of thousands of objects and no cycle; looking as often as Python does cost the worker a seventh.

    What is there by now is not looked at again.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def merge_freed_at_once() -> None:
    """Have glibc's malloc keep no fastbins (mallopt(3), M_MXFAST); another malloc is left as it is.

    librdkafka frees a group's headers, a dozen a record, by the hundred thousand at once; fastbins keep them apart, and the next larger
    request sorts them all: a fifth of the relay's time.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_MXFAST, 0)
