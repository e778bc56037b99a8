"""SLI windows out of an HTTP access log: in each aligned window, total = the requests logged, good = those with a status below 500.

Lines are in common or combined log format; further quoted fields after the agent, as in nginx's `main` format, are ignored.
Sources: Apache HTTP Server, mod_log_config ("Custom Log Formats", and how it escapes quotes); nginx, ngx_http_log_module.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BROKEN_LINES_NAMED: Final = 10

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_LINE: Final = 1 << 20  # bytes; far above what servers let a client put in a request line and two headers
_FIRST_BAD_STATUS: Final = b"500"
_MONTHS: Final = {name: number for number, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}

# A quantifier with a + behind gives nothing back, so a hostile line costs no more than its length.
_QUOTED: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_PARTS: Final = (
    ("client, identity and user", rb'\S++ \S++ (?:""|(?:[^"\\]|\\.)*?)'),  # a user's name may hold spaces, and is "" where it is empty
    ("a time in brackets", rb" \[(\d\d/[A-Z][a-z][a-z]/\d{4}:\d\d:\d\d):([0-5]\d) ([+-]\d\d[0-5]\d)\]"),
    ("a request in quotes", rb" " + _QUOTED),
    ("a status of three digits", rb" ([1-9]\d\d)"),
    ("a size in bytes or -", rb" (?:\d++|-)"),
    ("an end, or fields in quotes, after the size", rb"(?: " + _QUOTED + rb")*+\s*+\Z"),
)
_LINE: Final = re.compile(b"".join(pattern for _, pattern in _PARTS))
_BEGINNINGS: Final = tuple(
    (part, re.compile(b"".join(pattern for _, pattern in _PARTS[:length]))) for length, (part, _) in enumerate(_PARTS, 1)
)


@dataclass(frozen=True, slots=True)
class Window:
    """Requests logged in [start, start + width_seconds); `start` is a whole multiple of the width since 1970, UTC."""

    start: datetime
    width_seconds: int
    good: int
    total: int


@dataclass(frozen=True, slots=True)
class BrokenLine:
    """A line that is not in the format; `number` counts from 1."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """What became of the lines: each was parsed or is broken, an empty one included.

    `broken_lines` are the first few; `first` and `last` the earliest and latest instant, None without a parsed line. A line is out
    of order where an earlier line has a later time.
    """

    lines: int
    parsed: int
    broken: int
    broken_lines: tuple[BrokenLine, ...]
    first: datetime | None
    last: datetime | None
    out_of_order: int


def count_requests(lines: Iterable[bytes], width_seconds: int) -> tuple[tuple[Window, ...], Report]:
    """The windows that have a request, by start, and what became of each line. Memory grows with the windows, not with the lines.

    A window without a request is left out: it would change no budget, and a log can't tell a quiet minute from one that it lacks.
    `width_seconds` is 60 or 300.
    """
    width_minutes = width_seconds // 60
    total: dict[int, int] = defaultdict(int)
    bad: dict[int, int] = defaultdict(int)
    broken_lines: list[BrokenLine] = []
    number = broken = out_of_order = 0
    first = latest = None
    match = _LINE.match
    for number, line in enumerate(lines, 1):
        fields = match(line)
        minute = None if fields is None else _minute(fields[1], fields[3])
        if fields is None or minute is None:
            broken += 1
            if broken <= BROKEN_LINES_NAMED:
                broken_lines.append(BrokenLine(number, _fault(line)))
            continue
        instant = minute * 60 + int(fields[2])
        if latest is None or first is None:
            first = latest = instant
        elif instant >= latest:
            latest = instant
        else:
            out_of_order += 1
            first = min(first, instant)
        window = minute // width_minutes
        total[window] += 1
        if fields[4] >= _FIRST_BAD_STATUS:
            bad[window] += 1
    windows = tuple(
        Window(_time(window * width_seconds), width_seconds, total[window] - bad.get(window, 0), total[window]) for window in sorted(total)
    )
    parsed = number - broken
    first_time, last_time = (None if instant is None else _time(instant) for instant in (first, latest))
    return windows, Report(number, parsed, broken, tuple(broken_lines), first_time, last_time, out_of_order)


def read_lines(log: BinaryIO) -> Iterator[bytes]:
    """The lines of a log, each cut to 1 MiB, so that one without line ends can't fill the memory."""
    while line := log.readline(_LONGEST_LINE):
        yield line
        while len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
            line = log.readline(_LONGEST_LINE)


@lru_cache(maxsize=4096)
def _minute(text: bytes, zone: bytes) -> int | None:
    """Minutes from 1970 to a time like `11/Sep/2015:20:01`, `-0400`; None where there is no such time, or not since 1970."""
    month, (hours, minutes) = _MONTHS.get(text[3:6], 0), (int(zone[:3]), int(zone[:1] + zone[3:]))
    try:
        offset = timezone(timedelta(hours=hours, minutes=minutes))
        time = datetime(int(text[7:11]), month, int(text[:2]), int(text[12:14]), int(text[15:]), tzinfo=offset).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return (time - _EPOCH) // timedelta(minutes=1) if time >= _EPOCH else None


def _time(seconds: int) -> datetime:
    return _EPOCH + timedelta(seconds=seconds)


def _fault(line: bytes) -> str:
    """What is wrong with a line that is broken."""
    if not line.strip():
        return "is empty"
    missing = next((part for part, beginning in _BEGINNINGS if not beginning.match(line)), None)
    return "has a time that does not exist since 1970" if missing is None else f"lacks {missing}"
