"""Telemetry that fails is heard of once and stops nothing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from worker.telemetry.telling import telling

if TYPE_CHECKING:
    import pytest


def test_one_that_fails_keeps_nobody_else_from_hearing(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []

    def fail(_: str) -> None:
        raise RuntimeError("broken")

    tell = telling(fail, heard.append)
    assert tell is not None
    for what in ("one", "two", "three"):
        tell(what)
    assert heard == ["one", "two", "three"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_where_nobody_listens_there_is_nothing_to_call() -> None:
    assert telling() is None
