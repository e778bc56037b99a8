"""The inputs that are kept, in the repository: those that reached code that no other did, and what was found."""

from __future__ import annotations

from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

KEPT: Final = Path(__file__).parent / "corpus"
TARGETS: Final = tuple(sorted(path.stem for path in (Path(__file__).parent / "targets").glob("[a-z]*.py")))
LARGEST_BYTES: Final = 4_096
_BYTES_A_TARGET: Final = 32 * 1024
_NAME_LENGTH: Final = 16


class Target(Protocol):
    """A module of tests/fuzz/targets."""

    def check(self, data: bytes) -> None: ...
    def seeds(self) -> Iterator[bytes]: ...


def load(name: str) -> Target:
    return cast("Target", import_module(f"tests.fuzz.targets.{name}"))


def kept_files(name: str) -> list[Path]:
    return sorted((KEPT / name).glob("*"))


def write(directory: Path, data: bytes) -> Path:
    """Under a name that follows from the content, as libFuzzer's do."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / sha256(data).hexdigest()[:_NAME_LENGTH]
    file.write_bytes(data)
    return file


def keep(name: str, found: list[bytes]) -> int:
    """Replace the kept inputs, but those with telling names, by these, the small ones first; how many are new."""
    directory = KEPT / name
    before = {file.name for file in kept_files(name)}
    for file in kept_files(name):
        if _is_content(file.name):
            file.unlink()
    size, kept = 0, set()
    for data in sorted(found, key=len):
        size += len(data)
        if size > _BYTES_A_TARGET or len(data) > LARGEST_BYTES:
            break
        kept.add(write(directory, data).name)
    return len(kept - before)


def _is_content(file_name: str) -> bool:
    return len(file_name) == _NAME_LENGTH and set(file_name) <= set("0123456789abcdef")
