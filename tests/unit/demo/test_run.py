"""What waits for an answer is sent after it, and in the end without it."""

from __future__ import annotations

from dataclasses import replace
from threading import Event, Timer
from typing import TYPE_CHECKING

from worker.demo import run
from worker.demo.run import Observed, _sent

if TYPE_CHECKING:
    import pytest

    from worker.demo.story import Story


def test_it_is_sent_once_the_answer_is_there(story: Story) -> None:
    observed, waiting = Observed(), replace(story.creations[0], after=("another",))
    Timer(0.1, observed.first_fact_at.setdefault, ("another", 0.0)).start()
    assert list(_sent([waiting], observed, Event())) == [waiting.record]
    assert "another" in observed.first_fact_at


def test_an_answer_that_never_comes_does_not_hold_it_back_for_ever(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_LAST_ANSWER_SECONDS", 0.1)
    waiting = replace(story.creations[0], after=("lost",))
    assert list(_sent([waiting], Observed(), Event())) == [waiting.record]


def test_the_end_is_not_waited_out(story: Story) -> None:
    ended = Event()
    ended.set()
    assert list(_sent([replace(story.creations[0], after=("lost",))], Observed(), ended)) == []
