"""The tree that the site is built from. It mirrors the repository, so that a link that holds there holds here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from handbook.codes import codes_page
from handbook.commands import commands_page
from handbook.messages import asyncapi_page, messages_page
from worker.asyncapi import asyncapi_document

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[1]
_COPIED: Final = (
    "*.md",
    "docs/**/*.md",
    "docs/pictures/*.svg",
    "examples/**/*",
    "sql/roles.sql",
    ".ci/run",
    "handbook/*.css",
    "handbook/*.js",
)  # pages, and what they link to


def lay_out(directory: Path) -> None:
    """Make the tree anew: what is in the directory goes."""
    shutil.rmtree(directory, ignore_errors=True)
    for name, content in _files():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _files() -> Iterator[tuple[str, bytes]]:
    for pattern in _COPIED:
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(ROOT).as_posix(), path.read_bytes()
    for name, text in reference().items():
        yield f"docs/reference/{name}", text.encode()


def reference() -> dict[str, str]:
    """Files of docs/reference by name, made from the code."""
    document = asyncapi_document()
    return {
        "cli.md": commands_page(),
        "codes.md": codes_page(ROOT / "docs"),
        "messages.md": messages_page(),
        "asyncapi.md": asyncapi_page(document),
        "asyncapi.json": json.dumps(document, indent=2, ensure_ascii=False) + "\n",
    }
