"""Real logs, where they lie beside the checkout: the figures that their SOURCES.md names, and those that ship with the package."""

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest

from worker.demo.figures import WEBLOG, write_figures
from worker.integrations.access_log import Report, Window, count_requests, read_lines

LOGS = Path(__file__).parents[3].parent / "shared" / "real-inputs" / "access-logs"


def count(name: str, width_seconds: int) -> tuple[tuple[Window, ...], Report]:
    path = LOGS / name
    if not path.exists():
        pytest.skip(f"{name} is not in shared/real-inputs/access-logs beside the checkout")
    with path.open("rb") as log:
        return count_requests(read_lines(log), width_seconds)


@pytest.mark.parametrize("width_seconds", [60, 300])
@pytest.mark.parametrize(
    ("name", "lines", "bad", "first", "last"),
    [
        ("weblog-2015-09-11_13.access.log", 7128, 9, datetime(2015, 9, 11, 20, 1, 25), datetime(2015, 9, 13, 6, 25, 3)),  # noqa: DTZ001
        ("weblog-2015-09-13.access.log", 8515, 0, datetime(2015, 9, 13, 6, 25, 10), datetime(2015, 9, 13, 15, 6, 1)),  # noqa: DTZ001
        ("nasa-1995-07-01-first4000.access.log", 4000, 0, datetime(1995, 7, 1, 4, 0, 1), datetime(1995, 7, 1, 5, 8, 54)),  # noqa: DTZ001
    ],
)
def test_a_real_log_parses_whole(name: str, lines: int, bad: int, first: datetime, last: datetime, width_seconds: int) -> None:
    windows, report = count(name, width_seconds)
    assert (report.lines, report.parsed, report.broken) == (lines, lines, 0)
    assert sum(window.total for window in windows) == lines
    assert sum(window.total - window.good for window in windows) == bad
    assert (report.first, report.last) == (first.replace(tzinfo=UTC), last.replace(tzinfo=UTC))
    assert all(int(window.start.timestamp()) % width_seconds == 0 for window in windows)


@pytest.mark.parametrize(("name", "minutes"), [("weblog-2015-09-11_13.access.log", 369), ("nasa-1995-07-01-first4000.access.log", 69)])
def test_a_real_log_has_as_many_windows_as_minutes_with_requests(name: str, minutes: int) -> None:
    windows, _ = count(name, 60)
    assert len({window.start for window in windows}) == len(windows) == minutes


def test_the_figures_that_ship_are_those_of_the_real_log() -> None:
    out = io.StringIO()
    write_figures(count("weblog-2015-09-11_13.access.log", 60)[0], out)
    assert out.getvalue() == WEBLOG.read_text(encoding="ascii")
