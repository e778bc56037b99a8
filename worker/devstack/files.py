"""Directories that are whole or absent, whoever else makes them and whoever is killed meanwhile; and one that a process holds alone."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from worker.devstack.processes import DevStackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def make_once(directory: Path, fill: Callable[[Path], None]) -> Path:
    """Let `fill` write into an empty directory and rename that to `directory`; does nothing where this exists."""
    if directory.exists():
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        fill(unfinished)
        unfinished.rename(directory)
    except OSError:
        if not directory.exists():  # else another process was first, and its directory is as good
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return directory


def cache_directory() -> Path:
    """Where a user's programs keep what they can fetch again. Source: XDG Base Directory Specification."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sre-domain"


@contextmanager
def exclusive(directory: Path, owner: str) -> Iterator[None]:
    """Hold the directory for this process alone. Raises DevStackError where another has it."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DevStackError(f"another {owner} is running in {directory}") from None
        yield
