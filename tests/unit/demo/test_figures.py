"""The figures that ship with the package, without the log that they were made from."""

import io
from datetime import UTC, datetime
from pathlib import Path

from worker.demo.figures import read_figures, write_figures
from worker.integrations.access_log import Window


def test_the_figures_are_those_that_their_source_note_names() -> None:
    windows = read_figures()
    assert len(windows) == 369
    assert sum(window.total for window in windows) == 7128
    assert sum(window.total - window.good for window in windows) == 9
    assert {window.width_seconds for window in windows} == {60}
    assert [window.start for window in windows] == sorted({window.start for window in windows})
    assert windows[0] == Window(datetime(2015, 9, 11, 20, 1, tzinfo=UTC), 60, 1, 1)


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    windows = read_figures()
    out = io.StringIO()
    write_figures(windows, out)
    copy = tmp_path / "copy.csv"
    copy.write_text(out.getvalue(), encoding="ascii")
    assert read_figures(copy) == windows
