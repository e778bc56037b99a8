"""An HTTP access log: windows whose requests are the lines that were parsed."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from tests.support.records import CODEC, NOW
from worker.cli.imports import _intent, summary
from worker.integrations.access_log import count_requests, read_lines
from worker.intents import to_valid_outgoing

if TYPE_CHECKING:
    from collections.abc import Iterator


def check(data: bytes) -> None:
    windows, report = count_requests(read_lines(BytesIO(data)), 60)
    assert sum(window.total for window in windows) == report.parsed
    assert report.parsed + report.broken == report.lines
    assert all(0 <= window.good <= window.total for window in windows)
    assert all(line.isprintable() for line in summary(report))
    for window in windows[:3]:
        if window.start < NOW:  # a later one is the worker's to refuse
            to_valid_outgoing(_intent(window, "acme", "checkout", 0), CODEC)


def seeds() -> Iterator[bytes]:
    yield b'1.2.3.4 - - [11/Sep/2015:20:01:02 -0400] "GET / HTTP/1.1" 200 12\n'
    yield b'::1 - a b [11/Sep/2015:20:01:02 +0000] "GET /\\"x HTTP/1.1" 503 - "-" "curl" "x"\n\nnonsense\n'
    yield b'h - "" [31/Dec/9999:23:59:59 -2359] "" 999 0\n'
