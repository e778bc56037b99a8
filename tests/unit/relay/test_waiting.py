"""A call that blocks does not make the relay deaf."""

import time
from collections.abc import Iterator
from contextlib import closing
from threading import Event

import pytest

from worker.relay import waiting as waiting_module
from worker.relay.status import RelayStatus
from worker.relay.waiting import StoppedError, Waiting


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Waiting]:
    monkeypatch.setattr(waiting_module, "LOOK_UP_SECONDS", 0.01)
    monkeypatch.setattr(waiting_module, "GRACE_SECONDS", 0.05)
    with closing(Waiting(Event(), RelayStatus())) as made:
        yield made


def test_a_call_gives_its_result(waiting: Waiting) -> None:
    assert waiting.for_call(lambda: 1) + waiting.for_call(lambda: 2) == 3


def test_a_call_raises_its_own_error(waiting: Waiting) -> None:
    with pytest.raises(ZeroDivisionError):
        waiting.for_call(lambda: 1 // 0)


def test_something_is_done_while_a_call_blocks(waiting: Waiting) -> None:
    turns = Event()
    with waiting.doing(turns.set):
        assert waiting.for_call(lambda: turns.wait(10))


def test_nothing_is_done_after_that(waiting: Waiting) -> None:
    turns = Event()
    with waiting.doing(turns.set):
        pass
    waiting.turn()
    assert not turns.is_set()


def test_a_call_that_ends_soon_after_a_stop_still_gives_its_result(waiting: Waiting) -> None:
    waiting.stop.set()
    assert waiting.for_call(lambda: "committed") == "committed"


def test_a_call_that_goes_on_after_a_stop_is_left_behind(waiting: Waiting) -> None:
    let_go = Event()
    waiting.stop.set()
    with pytest.raises(StoppedError):
        waiting.for_call(lambda: let_go.wait(10))
    let_go.set()


def test_all_calls_after_a_stop_share_one_grace(waiting: Waiting) -> None:
    let_go = Event()
    waiting.stop.set()
    started = time.monotonic()
    for _ in range(5):
        with pytest.raises(StoppedError):
            waiting.for_call(lambda: let_go.wait(10))
    assert time.monotonic() - started < 5 * waiting_module.GRACE_SECONDS
    let_go.set()


def test_a_pause_ends_with_a_stop(waiting: Waiting) -> None:
    waiting.stop.set()
    started = time.monotonic()
    waiting.for_seconds(60)
    assert time.monotonic() - started < 5


def test_a_turn_hears_a_stop_at_once(waiting: Waiting) -> None:
    waiting.turn()
    waiting.stop.set()
    with pytest.raises(StoppedError):
        waiting.turn()
