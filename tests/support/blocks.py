"""The blocks of code in the pages, and a shell that runs them in their order, as a reader would."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "k8s/**/*.md")
    for path in ROOT.glob(pattern)
)
RUN: Final = ("sh", "python", "sql")
PARSED: Final = ("json", "yaml", "toml")
SHOWN: Final = "text"  # output, and what is no code at all

DEADLINE_SECONDS: Final = 60
_OUTPUT: Final = (SHOWN, "json")
# What is read may not be there yet.
_ASKS_AGAIN: Final = ("sre-domain facts", "sre-domain rejected", "sre-domain query", "from worker.postgres.queries")
_VARYING: Final = {
    "time",
    "ce_time",
    "created_at",
    "updated_at",
    "broker_timestamp",
    "offset",
    "acknowledged_at",
    "resolved_at",
    "status_changed_at",
}
_FENCED: Final = re.compile(r"^( *)```(\w*)\n(.*?)\n *```$", re.MULTILINE | re.DOTALL)


@contextmanager
def started(
    command: Sequence[str], directory: Path, environment: Mapping[str, str], log: Path, until: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that goes on by itself, from the moment its log says `until`; told to end at the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=directory, env=environment, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while until not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(DEADLINE_SECONDS)


@dataclass(frozen=True)
class Block:
    """A block of code, the heading of level two above it, and what it puts out where the next block shows that."""

    page: str
    line: int
    heading: str
    language: str
    code: str
    output: str | None = None


def blocks_of(page: str) -> list[Block]:
    """All blocks of a page but those that are another's output: a block of text or JSON right behind one that is run."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found: list[Block] = []
    end, is_run = 0, False
    for match in _FENCED.finditer(text):
        _, language, code = match.groups()
        if is_run and language in _OUTPUT and not text[end : match.start()].strip():
            last = found.pop()
            found.append(Block(last.page, last.line, last.heading, last.language, last.code, code))
        else:
            headings = re.findall(r"^## (.*)$", text[: match.start()], re.MULTILINE)
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(page, line, headings[-1] if headings else "", language, textwrap.dedent(code)))
        end, is_run = match.end(), language in RUN
    return found


@dataclass(frozen=True)
class Shell:
    """Runs blocks as one shell would: what a block exports, the next ones have."""

    directory: Path
    environment: dict[str, str]

    def run(self, code: str) -> str:
        """What is put out, stderr included. Raises AssertionError where the status is not 0."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f". ./exports\n{code}\nexport -p > exports"],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}"
        return done.stdout

    @contextmanager
    def service(self, command: str, until: str) -> Iterator[None]:
        """A command that goes on by itself, from the moment it says `until`."""
        log = self.directory / f"{command.replace(' ', '-')}.log"
        with started(["bash", "-c", f". ./exports; exec {command}"], self.directory, self.environment, log, until) as process:
            yield
            assert process.poll() is None, log.read_text()

    def within(self, directory: Path) -> Shell:
        """A new shell in an empty directory, with the same programs and no exports."""
        directory.mkdir()
        (directory / "exports").touch()
        return Shell(directory, self.environment)


def new_shell(directory: Path, environment: dict[str, str]) -> Shell:
    """In a directory that is empty, with `sre-domain` on the PATH and no settings."""
    directory.chmod(0o755)
    programs = directory / "bin"
    programs.mkdir()
    for name, arguments in (("sre-domain", "-m worker"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments} "$@"\n')
        (programs / name).chmod(0o755)
    (directory / "exports").touch()
    settings = {name: value for name, value in environment.items() if not name.startswith("SRE_")}
    return Shell(directory, settings | {"PATH": f"{programs}:{environment['PATH']}", "PYTHONPATH": str(ROOT)})


def run_block(shell: Shell, block: Block) -> None:
    """Run a block of shell or Python, and compare what it puts out with what is shown, where something is."""
    code = block.code if block.language == "sh" else f"{shlex.quote(sys.executable)} - <<'END'\n{block.code}\nEND"
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            output = shell.run(code)
            assert block.output is None or comparable(output) == comparable(block.output), f"{block.page}:{block.line} puts out\n{output}"
        except AssertionError:
            if not block.code.startswith(_ASKS_AGAIN) or time.monotonic() > deadline:
                raise
        else:
            return


def walk(shell: Shell, steps: Sequence[Block]) -> None:
    for block in steps:
        run_block(shell, block)


def comparable(output: str) -> list[object]:
    """Lines, those of JSON without what differs from run to run."""
    return [_without_varying(json.loads(line)) if line.startswith("{") else line for line in output.strip().splitlines()]


def _without_varying(node: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(node, dict):
        return {name: _without_varying(value) for name, value in node.items() if name not in _VARYING}
    return node
