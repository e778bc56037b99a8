"""Python's search for cycles, as rare as work without any deserves."""

from __future__ import annotations

import gc


def collect_rarely() -> None:
    """A batch or a group makes tens of thousands of objects and no cycle; looking as often as Python does cost the worker a seventh.

    What is there by now is not looked at again.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
