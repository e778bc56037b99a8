"""The SLI windows of a real access log that ship with the package, as CSV; SOURCES.md beside it says whose log it is.

Make them again: `python -m worker.demo.figures ACCESS_LOG > worker/demo/weblog-2015-09-11.csv`
"""

import csv
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final, TextIO

from worker.domain.fields import parse_rfc3339
from worker.integrations.access_log import Window, count_requests, read_lines

WEBLOG: Final = Path(__file__).with_name("weblog-2015-09-11.csv")
_COLUMNS: Final = ("start", "width_seconds", "good", "total")
_WIDTH_SECONDS: Final = 60


def read_figures(path: Path = WEBLOG) -> tuple[Window, ...]:
    """The windows in a file that `write_figures` wrote."""
    with path.open(encoding="ascii", newline="") as file:
        return tuple(
            Window(parse_rfc3339(row["start"]), int(row["width_seconds"]), int(row["good"]), int(row["total"]))
            for row in csv.DictReader(file)
        )


def write_figures(windows: Iterable[Window], out: TextIO) -> None:
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(_COLUMNS)
    rows.writerows((f"{window.start:%Y-%m-%dT%H:%M:%SZ}", window.width_seconds, window.good, window.total) for window in windows)


if __name__ == "__main__":
    with Path(sys.argv[1]).open("rb") as log:
        write_figures(count_requests(read_lines(log), _WIDTH_SECONDS)[0], sys.stdout)
