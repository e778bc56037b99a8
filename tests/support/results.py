"""Results of tests that somebody wants to see as a table: JSON in build/, an entry a test, whichever process ran it."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

BUILD = Path(__file__).parents[2] / "build"


def record_result(file: str, name: str, result: object) -> None:
    """Set `name` in build/<file>; what other tests have put there stays."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / file).open("a+", encoding="utf-8") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.seek(0)
        results = json.loads(held.read() or "{}")
        held.truncate(0)
        json.dump({**results, name: result}, held, indent=2)
