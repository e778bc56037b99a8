"""One target for so many seconds, in a process of its own: `python -m tests.fuzz.session TARGET SECONDS DIRECTORY`.

Guided by coverage where atheris is there, else by chance. What the check raises is a finding, once for each place that raises it; the
session goes on. DIRECTORY gets corpus/, findings/ and result.json.
"""

from __future__ import annotations

import json
import logging
import random
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.fuzz import kept_inputs
from tests.fuzz.limits import CPU_SECONDS, MEMORY_BYTES, TooMuchError, peak_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

try:
    import atheris
except ImportError:  # it comes for few platforms
    atheris = None

_INSTRUMENTED: Final = 10  # so much slower, at most, is code that is watched
_MERGE: Final = "merge"
_ARGUMENTS: Final = 4  # program, target, seconds or merge, directory; then libFuzzer's


class Session:
    """Runs the check on input after input and counts."""

    def __init__(self, check: Callable[[bytes], None], directory: Path) -> None:
        self._check = check
        self._directory = directory
        self._places: set[str] = set()
        self.executions = 0

    def run(self, data: bytes) -> None:
        self.executions += 1
        memory, began = peak_bytes(), time.process_time()
        try:
            self._check(data)
            _refuse_too_much(time.process_time() - began, peak_bytes() - memory if self.executions > 1 else 0)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            self._record(data, error)

    def _record(self, data: bytes, error: Exception) -> None:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{type(error).__name__} {last.filename}:{last.lineno} {error if isinstance(error, TooMuchError) else ''}"
        if place in self._places:
            return
        self._places.add(place)
        file = kept_inputs.write(self._directory / "findings", data)
        file.with_name(f"{file.name}.txt").write_text(
            "".join(traceback.format_exception(error)), encoding="utf-8", errors="backslashreplace"
        )


def _refuse_too_much(seconds: float, grown_bytes: int) -> None:
    if seconds > CPU_SECONDS * _INSTRUMENTED:
        raise TooMuchError("slow")
    if grown_bytes > MEMORY_BYTES:
        raise TooMuchError("large")


def fuzz(name: str, seconds: int, directory: Path) -> None:
    inputs = directory / "corpus"
    began = time.monotonic()
    target = _watched(name)
    for data in target.seeds():
        kept_inputs.write(inputs, data)
    session = Session(target.check, directory)
    write_result(directory, session, began)
    if atheris is None:
        _by_chance(session, [file.read_bytes() for file in (*inputs.iterdir(), *kept_inputs.kept_files(name))], inputs, began + seconds)
        write_result(directory, session, began)
        return

    def run(data: bytes) -> None:
        session.run(data)
        if session.executions % 256 == 0:
            write_result(directory, session, began)

    options = [f"-max_total_time={seconds}", f"-max_len={kept_inputs.LARGEST_BYTES}", "-rss_limit_mb=4096", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, str(inputs), str(kept_inputs.KEPT / name)], run)
    atheris.Fuzz()  # ends the process


def merge(name: str, directory: Path) -> None:
    """The inputs of corpus/ and of the kept ones that cover it all, into merged/."""
    target, merged, again = _watched(name), directory / "merged", directory / "again.sh"
    merged.mkdir(exist_ok=True)
    again.write_text(f'#!/bin/sh\nexec {sys.executable} -m {__spec__.name} {name} {_MERGE} {directory} "$@"\n')
    again.chmod(0o700)  # libFuzzer starts its own program for each part of the work
    options = [
        "-merge=1",
        f"-max_len={kept_inputs.LARGEST_BYTES}",
        "-verbosity=0",
        str(merged),
        str(directory / "corpus"),
        str(kept_inputs.KEPT / name),
    ]
    atheris.Setup([str(again), *(sys.argv[_ARGUMENTS:] or options)], Session(target.check, directory).run)
    atheris.Fuzz()


def write_result(directory: Path, session: Session, began: float) -> None:
    result = {"executions": session.executions, "seconds": round(time.monotonic() - began, 1), "guided": atheris is not None}
    (directory / "result.json").write_text(json.dumps(result))


def _watched(name: str) -> kept_inputs.Target:
    if atheris is None:
        return kept_inputs.load(name)
    with atheris.instrument_imports(include=["worker"], enable_loader_override=False):
        return kept_inputs.load(name)


def _by_chance(session: Session, inputs: list[bytes], directory: Path, until: float) -> None:
    chance = random.Random(len(inputs))  # noqa: S311 - no secret
    for data in inputs:
        session.run(data)
    while time.monotonic() < until:
        session.run(_changed(chance, chance.choice(inputs), chance.choice(inputs)))
    directory.mkdir(exist_ok=True)


def _changed(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """A few bytes set, taken out, doubled, or taken from another input."""
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 6)):
        at, length = chance.randrange(len(changed) + 1), chance.randrange(1, 9)
        part: Any = chance.choice((chance.randbytes(length), b"", bytes(changed[at : at + length]) * 2, other[at : at + length * 8]))
        changed[at : at + length] = part
    return bytes(changed[: kept_inputs.LARGEST_BYTES])


if __name__ == "__main__":
    logging.getLogger().addHandler(logging.NullHandler())  # what is logged is no finding
    if sys.argv[2] == _MERGE:
        merge(sys.argv[1], Path(sys.argv[3]))
    else:
        fuzz(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
