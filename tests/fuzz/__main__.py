"""`python -m tests.fuzz --seconds 60 [TARGET …]`: every target for so long, one after the other; status 1 where something was found.

Prints a line a target and writes build/fuzz.json. Inputs that reach new code are kept in tests/fuzz/corpus.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from tests.fuzz import kept_inputs
from tests.fuzz.limits import check_within_limits

BUILD: Final = Path("build")
_MERGE_SECONDS: Final = 600


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(kept_inputs.TARGETS)}; else all")
    given = parser.parse_args()
    logging.getLogger().addHandler(logging.NullHandler())
    results: dict[str, dict[str, Any]] = {}
    for name in given.targets or kept_inputs.TARGETS:
        result = results[name] = fuzz(name, given.seconds)
        cost = f"{result['executions']:>9} executions {result['seconds']:>7} s"
        print(f"{name:<14} {cost} {result['new_entries']:>4} new inputs {len(result['findings']):>3} findings", flush=True)
    file = BUILD / "fuzz.json"
    file.write_text(json.dumps({"seconds_a_target": given.seconds, "targets": results}, indent=2) + "\n")
    findings = [finding for result in results.values() for finding in result["findings"]]
    for finding in findings:
        print(f"found: {finding}, why: {finding}.txt")
    return 1 if findings else 0


def fuzz(name: str, seconds: int) -> dict[str, Any]:
    directory = BUILD / "fuzz" / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    (kept_inputs.KEPT / name).mkdir(parents=True, exist_ok=True)
    log = directory / "session.log"
    _run([name, str(seconds), str(directory)], log, seconds + _MERGE_SECONDS)
    result: dict[str, Any] = json.loads((directory / "result.json").read_text())
    inputs = [file.read_bytes() for file in (directory / "corpus").iterdir()]
    if result["guided"]:
        _run([name, "merge", str(directory)], log, _MERGE_SECONDS)
        inputs = [file.read_bytes() for file in (directory / "merged").iterdir()]
    target = kept_inputs.load(name)
    for data in inputs:
        try:
            check_within_limits(target.check, data)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            file = kept_inputs.write(directory / "findings", data)
            file.with_name(f"{file.name}.txt").write_text(repr(error))
    found = sorted(str(file) for file in (directory / "findings").glob("*") if not file.suffix)
    new = kept_inputs.keep(name, inputs) if result["guided"] else 0
    return {**result, "new_entries": new, "findings": found}


def _run(arguments: list[str], log: Path, timeout_seconds: int) -> None:
    """A session ends without cleaning up, so what it leaves lies in its directory."""
    with log.open("ab") as output:
        command = [sys.executable, "-m", "tests.fuzz.session", *arguments]
        environment = {**os.environ, "TMPDIR": str(log.parent.resolve())}
        subprocess.run(command, env=environment, stdout=output, stderr=output, timeout=timeout_seconds, check=True)


if __name__ == "__main__":
    sys.exit(main())
