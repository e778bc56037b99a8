"""An index of the codes: what each means, and the chapters that hold its rules."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from handbook.tables import table
from worker.domain.rejection import RejectionCode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MEANINGS: Final = "Codes"  # the chapter of the contract that says them; the rules are elsewhere


def codes_page(docs: Path) -> str:
    """Raises KeyError where the contract has no meaning for a code."""
    chapters = [chapter for page in ("contract.md", *_aggregates(docs), "signatures.md") for chapter in _chapters(docs, page)]
    (meanings_chapter,) = (text for page, title, text in chapters if (page, title) == ("contract.md", _MEANINGS))
    meanings = dict(re.findall(r"^\| `([A-Z_]+)` \| (.*) \|$", meanings_chapter, re.MULTILINE))
    rows = [(f"`{code}`", meanings[code], ", ".join(_places(code, chapters))) for code in sorted(RejectionCode)]
    return "\n".join(_lines(rows))


def _lines(rows: list[tuple[str, str, str]]) -> Iterator[str]:
    yield "# Codes\n"
    yield "Every code that an `IntentRejected` can carry. [Codes are added, never renamed](../contract.md#codes): treat one that"
    yield "you don't know as a refusal. [Queries](../queries.md) have codes of their own.\n"
    yield from table(("Code", "Means", "Its rules"), rows)
    yield ""


def _aggregates(docs: Path) -> list[str]:
    return sorted(path.relative_to(docs).as_posix() for path in (docs / "aggregates").glob("*.md"))


def _chapters(docs: Path, page: str) -> Iterator[tuple[str, str, str]]:
    """Page, title and text of every part between two headings."""
    parts = re.split(r"^#+ (.*)$", (docs / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    for title, text in zip(parts[1::2], parts[2::2], strict=True):
        yield page, title, text


def _places(code: str, chapters: list[tuple[str, str, str]]) -> Iterator[str]:
    for page, title, text in chapters:
        if f"`{code}`" in text and (page, title) != ("contract.md", _MEANINGS):
            anchor = re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
            where = "" if page == "contract.md" else f"{page.removeprefix('aggregates/').removesuffix('.md').capitalize()}: "
            yield f"[{where}{title}](../{page}#{anchor})"
