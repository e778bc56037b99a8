"""Text on its way to a terminal or into a log line: whatever came from outside, it can speak to neither."""

from __future__ import annotations

import json


def printable(text: str) -> str:
    """The text with everything that a terminal might obey, or show as nothing, in escapes: control characters, bidi marks, line ends."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else character.encode("unicode_escape").decode() for character in text)


def printable_json(value: object) -> str:
    """JSON on one line, the same value to every reader; JSON itself leaves in what some terminals obey, such as U+009B."""
    line = json.dumps(value, ensure_ascii=False)
    if line.isprintable():
        return line
    return "".join(character if character.isprintable() else json.dumps(character)[1:-1] for character in line)
