"""Directories that are whole or absent, and one that a process holds alone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from worker.devstack.files import cache_directory, exclusive, make_once
from worker.devstack.processes import DevStackError

if TYPE_CHECKING:
    from pathlib import Path


def test_two_that_fill_a_directory_at_once_leave_one_that_is_whole(tmp_path: Path) -> None:
    both_are_filling = threading.Barrier(2, timeout=10)

    def fill(empty: Path) -> None:
        (empty / "first").touch()
        both_are_filling.wait()
        (empty / "second").touch()

    with ThreadPoolExecutor() as pool:
        made = [pool.submit(make_once, tmp_path / "made", fill) for _ in range(2)]
    assert {future.result() for future in made} == {tmp_path / "made"}
    assert {file.name for file in (tmp_path / "made").iterdir()} == {"first", "second"}
    assert list(tmp_path.iterdir()) == [tmp_path / "made"]


def test_a_directory_that_could_not_be_filled_is_absent(tmp_path: Path) -> None:
    def fill(empty: Path) -> None:
        (empty / "first").touch()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        make_once(tmp_path / "made", fill)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_exists_is_not_filled_again(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    make_once(tmp_path / "made", lambda _empty: pytest.fail("filled again"))


def test_a_held_directory_is_refused_to_a_second_and_free_afterwards(tmp_path: Path) -> None:
    with exclusive(tmp_path, "stack"), pytest.raises(DevStackError, match="another stack is running in"), exclusive(tmp_path, "stack"):
        pass
    with exclusive(tmp_path, "stack"):
        pass


def test_the_cache_lies_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "sre-domain"
