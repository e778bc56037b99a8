"""What reaches a terminal or a log: no control character, no bidi mark, one line a record."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from worker.cli.main import _OBEYED
from worker.integrations.located_yaml import Note
from worker.logs import _FORMAT, OneLine
from worker.printable import printable, printable_json

if TYPE_CHECKING:
    from collections.abc import Iterator

_FORMATTER = OneLine(_FORMAT)


def check(data: bytes) -> None:
    for text in {
        data.decode(errors="replace"),
        data.decode(errors="surrogateescape"),
        data[: len(data) // 2 * 2].decode("utf-16-le", errors="surrogatepass"),
    }:
        assert printable(text).isprintable()
        line = printable_json({"told": text, text: [text]})
        assert line.isprintable()
        assert json.loads(line) == {"told": text, text: [text]}
        assert str(Note(text, 1, text, text)).isprintable()
        assert _OBEYED.search(printable(text)) is None
        assert_lines(text)


def assert_lines(text: str) -> None:
    error = ValueError(text)
    record = logging.LogRecord("worker", logging.ERROR, __file__, 1, "%s", (text,), (ValueError, error, None))
    first, *others = _FORMATTER.format(record).split("\n")
    assert first.isprintable()
    assert all(line.startswith("    ") and line.isprintable() for line in others)


def seeds() -> Iterator[bytes]:
    yield b"\x1b[31m\x1b]0;title\x07\x9b31m"
    yield "\u202e\u2028\u2029\ufeff\u200b\x85 2026-01-01 CRITICAL".encode()
    yield b"a\n2026-01-01 00:00:00,000 CRITICAL worker all is lost\r\x00"
    yield "\ud83d\ude00".encode("utf-16-le", "surrogatepass") + b"\x00\xd8"
