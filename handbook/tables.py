"""Markdown tables."""

from collections.abc import Iterable, Iterator, Sequence


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def cell(text: str) -> str:
    """Text as a cell shows it: on one line, no character of it taken for markup of tables or HTML."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
