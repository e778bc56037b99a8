"""From lines of an access log to SLI windows: hand-written lines, and laws over generated ones."""

import io
import random
import time
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.integrations.access_log import BROKEN_LINES_NAMED, BrokenLine, Report, Window, count_requests, read_lines

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
AGENT = b'"Mozilla/5.0 (X11; Linux x86_64)"'


def line(  # noqa: PLR0913 - the fields of a line
    at: str = "02/Mar/2026:12:00:00 +0000",
    *,
    client: bytes = b"198.18.0.1",
    user: bytes = b"-",
    request: bytes = b"GET / HTTP/1.1",
    status: bytes = b"200",
    size: bytes = b"512",
    tail: bytes = b"",
    end: bytes = b"\n",
) -> bytes:
    return client + b" - " + user + b" [" + at.encode() + b'] "' + request + b'" ' + status + b" " + size + tail + end


def count(*lines: bytes, width_seconds: int = 60) -> tuple[tuple[Window, ...], Report]:
    return count_requests(lines, width_seconds)


@pytest.mark.parametrize(
    "parsed",
    [
        pytest.param(line(), id="common"),
        pytest.param(line(tail=b' "https://example.org/" ' + AGENT), id="combined"),
        pytest.param(line(tail=b' "-" ' + AGENT + b' "203.0.113.9, 198.51.100.1"'), id="combined-and-forwarded-for"),
        pytest.param(line(size=b"-"), id="no-body"),
        pytest.param(line(request=b"GET /"), id="request-without-protocol"),
        pytest.param(line(request=b"-", status=b"408"), id="no-request"),
        pytest.param(line(request=b"", status=b"400"), id="empty-request"),
        pytest.param(line(request=rb"GET /?q=\"a\" HTTP/1.1"), id="escaped-quotes-in-the-request"),
        pytest.param(line(request=rb"\x16\x03\x01\\"), id="request-that-ends-in-an-escaped-backslash"),
        pytest.param(line(tail=rb' "-" "a \"quoted\" agent, [02/Mar/2026:11:11:11 +0000] \" 500 1"'), id="hostile-agent"),
        pytest.param(line(client=b"2001:db8::1"), id="ipv6"),
        pytest.param(line(client=b"::ffff:198.18.0.1"), id="ipv4-in-ipv6"),
        pytest.param(line(client=b"piweba3y.prodigy.com"), id="host-name"),
        pytest.param(line(user=b"Jane Doe"), id="user-with-a-space"),
        pytest.param(line(user=b"[jane] x"), id="user-with-brackets"),
        pytest.param(line(user=b'""'), id="empty-user"),
        pytest.param(line(user=rb"jane \"x\" \\"), id="user-with-escaped-quotes"),
        pytest.param(line(request=b"GET /caf\xe9\xff\x00 HTTP/1.1", tail=b' "\xc3\x28" "\xf0\x28\x8c"'), id="not-utf-8"),
        pytest.param(line(end=b"\r\n"), id="crlf"),
        pytest.param(line(end=b""), id="no-line-end"),
        pytest.param(line(end=b" \t\r\n"), id="trailing-blanks"),
        pytest.param(b"\0" * 4096 + line(), id="zeros-of-a-truncated-file"),
    ],
)
def test_a_line_in_the_format_is_counted(parsed: bytes) -> None:
    windows, report = count(parsed)
    assert [(window.start, window.total) for window in windows] == [(NOON, 1)]
    assert (report.parsed, report.broken, report.broken_lines) == (1, 0, ())


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (b"\n", "is empty"),
        (b" \t\r\n", "is empty"),
        (b"garbage\n", "lacks client, identity and user"),
        (b"198.18.0.1 - - GET / 200\n", "lacks a time in brackets"),
        (b"\x1f\x8b\x08\x00 \xff \xfe\n", "lacks a time in brackets"),
        (line("02/Mar/2026 12:00:00 +0000"), "lacks a time in brackets"),
        (line("02/Mar/2026:12:00:60 +0000"), "lacks a time in brackets"),
        (line("02/Mar/2026:12:00:00"), "lacks a time in brackets"),
        (line("2026-03-02T12:00:00Z"), "lacks a time in brackets"),
        (line("02/Foo/2026:12:00:00 +0000"), "has a time that does not exist since 1970"),
        (line("30/Feb/2026:12:00:00 +0000"), "has a time that does not exist since 1970"),
        (line("02/Mar/2026:24:00:00 +0000"), "has a time that does not exist since 1970"),
        (line("02/Mar/2026:12:00:00 +2400"), "has a time that does not exist since 1970"),
        (line("01/Jan/1970:00:00:00 +0100"), "has a time that does not exist since 1970"),
        (line("31/Dec/9999:23:59:00 -0100"), "has a time that does not exist since 1970"),
        (line("01/Jan/0000:00:00:00 +0000"), "has a time that does not exist since 1970"),
        (b'198.18.0.1 - - [02/Mar/2026:12:00:00 +0000] "GET / HT\n', "lacks a request in quotes"),
        (line(request=b'GET /"x" HTTP/1.1'), "lacks a status of three digits"),
        (line(status=b"-"), "lacks a status of three digits"),
        (line(status=b"000"), "lacks a status of three digits"),
        (line(status=b"20"), "lacks a status of three digits"),
        (line(status=b"2000"), "lacks a size in bytes or -"),
        (line(size=b"-1"), "lacks an end, or fields in quotes, after the size"),
        (line(size=b""), "lacks a size in bytes or -"),
        (line(tail=b' "https://example.org/" "Mozilla/5.0 (cut'), "lacks an end, or fields in quotes, after the size"),
        (line(end=b"") + line(), "lacks an end, or fields in quotes, after the size"),
    ],
)
def test_a_broken_line_is_named_and_the_others_are_counted(broken: bytes, reason: str) -> None:
    windows, report = count(line(), broken, line(status=b"503"))
    assert windows == (Window(NOON, 60, good=1, total=2),)
    assert (report.lines, report.parsed, report.broken) == (3, 2, 1)
    assert report.broken_lines == (BrokenLine(2, reason),)


def test_the_first_broken_lines_are_named_and_all_are_counted() -> None:
    windows, report = count_requests((b"no\n" for _ in range(1000)), 60)
    assert windows == ()
    assert (report.lines, report.parsed, report.broken, report.first, report.last) == (1000, 0, 1000, None, None)
    assert [broken.number for broken in report.broken_lines] == list(range(1, BROKEN_LINES_NAMED + 1))


@pytest.mark.parametrize(("status", "good"), [(b"100", 1), (b"308", 1), (b"404", 1), (b"499", 1), (b"500", 0), (b"503", 0), (b"999", 0)])
def test_a_status_below_500_is_good(status: bytes, good: int) -> None:
    windows, _ = count(line(status=status))
    assert windows == (Window(NOON, 60, good, total=1),)


def test_zones_are_told_apart_and_windows_are_in_utc() -> None:
    windows, report = count(
        line("02/Mar/2026:12:00:30 +0000"), line("02/Mar/2026:08:00:59 -0400"), line("02/Mar/2026:17:30:01 +0530"),
        line("03/Mar/2026:00:00:00 +1200"), line("01/Mar/2026:23:59:00 -1201"),
    )  # fmt: skip
    assert windows == (Window(NOON, 60, good=5, total=5),)
    assert (report.first, report.last) == (NOON, NOON + timedelta(seconds=59))


def test_windows_are_aligned_to_their_width_and_a_minute_without_a_request_has_none() -> None:
    lines = [line(f"02/Mar/2026:12:{minute}:59 +0000") for minute in ("00", "04", "05", "14")]
    minutes, _ = count(*lines)
    fives, _ = count(*lines, width_seconds=300)
    assert [window.start.minute for window in minutes] == [0, 4, 5, 14]
    assert fives == (
        Window(NOON, 300, 2, 2),
        Window(NOON + timedelta(minutes=5), 300, 1, 1),
        Window(NOON + timedelta(minutes=10), 300, 1, 1),
    )


def test_lines_out_of_order_are_counted_as_such_and_nothing_else_changes() -> None:
    ordered = [line(f"02/Mar/2026:12:00:{second:02} +0000") for second in range(4)]
    shuffled = [ordered[2], ordered[0], ordered[2], ordered[1], ordered[3]]
    windows, report = count(*shuffled)
    assert windows == (Window(NOON, 60, 5, 5),)
    assert (report.out_of_order, report.first, report.last) == (2, NOON, NOON + timedelta(seconds=3))


def test_no_lines_give_no_windows() -> None:
    assert count() == ((), Report(0, 0, 0, (), None, None, 0))


def test_a_line_without_end_does_not_fill_the_memory_and_counts_as_one() -> None:
    log = io.BytesIO(b"x" * (5 << 20) + b"\n" + line() + b"\0" * (1 << 20))
    pieces = list(read_lines(log))
    assert [len(piece) for piece in pieces] == [1 << 20, len(line()), 1 << 20]
    assert count_requests(pieces, 60)[1].broken == 2


def test_memory_grows_with_windows_not_with_lines() -> None:
    def lines(number: int) -> Iterator[bytes]:
        return (line(f"02/Mar/2026:12:{second // 60 % 60:02}:{second % 60:02} +0000") for second in range(number))

    peaks = []
    for number in (3_600, 36_000):
        tracemalloc.start()
        count_requests(lines(number), 60)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param(b"a - " + b" [02/Mar/2026:12:00:00 +0000]" * 36_000, id="many-times"),
        pytest.param(b"a - " + b' [02/Mar/2026:12:00:00 +0000] "' * 34_000, id="many-requests-begun"),
        pytest.param(b"a - " + b" " * (1 << 20), id="blanks"),
        pytest.param(line(request=b"\\" * (1 << 20) + b"\\", end=b""), id="backslashes"),
        pytest.param(line(tail=b' ""' * 350_000 + b' "', end=b""), id="many-fields"),
    ],
)
def test_a_hostile_line_costs_no_more_than_its_length(hostile: bytes) -> None:
    started = time.process_time()
    _, report = count(hostile)
    assert report.broken == 1
    assert time.process_time() - started < 2


INSTANTS = st.datetimes(datetime(2026, 3, 1), datetime(2026, 3, 1, 3)).map(lambda naive: naive.replace(microsecond=0))  # noqa: DTZ001 - a zone comes next
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
REQUESTS = st.tuples(INSTANTS, ZONES, st.integers(100, 599))
BROKEN = st.sampled_from([b"\n", b"garbage\n", line(status=b"-"), line("30/Feb/2026:12:00:00 +0000")])


def line_of(request: tuple[datetime, timezone, int]) -> bytes:
    instant, zone, status = request
    return line(instant.replace(tzinfo=UTC).astimezone(zone).strftime("%d/%b/%Y:%H:%M:%S %z"), status=str(status).encode())


@given(st.lists(REQUESTS, max_size=60), st.lists(BROKEN, max_size=5), st.sampled_from([60, 300]), st.randoms(use_true_random=False))
def test_the_windows_are_those_of_a_naive_count_whatever_the_order(
    requests: list[tuple[datetime, timezone, int]], broken: list[bytes], width_seconds: int, order: random.Random
) -> None:
    lines = [line_of(request) for request in requests] + broken
    order.shuffle(lines)
    windows, report = count(*lines, width_seconds=width_seconds)
    expected: dict[datetime, tuple[int, int]] = {}
    for instant, _, status in requests:
        at = instant.replace(tzinfo=UTC)
        start = at - timedelta(seconds=at.timestamp() % width_seconds)
        good, total = expected.get(start, (0, 0))
        expected[start] = good + (status < 500), total + 1
    assert windows == tuple(Window(start, width_seconds, *counts) for start, counts in sorted(expected.items()))
    assert sum(window.total for window in windows) == report.parsed == len(requests)
    assert report.lines == report.parsed + report.broken
    assert report.broken == len(broken)
    instants = [instant.replace(tzinfo=UTC) for instant, _, _ in requests]
    assert (report.first, report.last) == ((min(instants), max(instants)) if instants else (None, None))


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_no_bytes_are_fatal(pieces: list[bytes]) -> None:
    _, report = count_requests(read_lines(io.BytesIO(b"\n".join(pieces))), 60)
    assert report.lines == report.parsed + report.broken
