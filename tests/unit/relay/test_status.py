"""What a relay tells its probes in each of its phases."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from worker.relay.status import RelayStatus

if TYPE_CHECKING:
    import pytest


def test_a_relay_is_ready_while_it_streams_and_while_it_stands_by() -> None:
    relay = RelayStatus()
    for phase in ("active", "standing by"):
        relay.enter(phase)
        assert (relay.ready().state, relay.ready().reasons, relay.live().reasons) == (phase, (), ())


def test_a_relay_that_starts_or_waits_is_not_ready_and_says_why_and_lives() -> None:
    relay = RelayStatus()
    assert relay.ready().reasons == ("starting",)
    relay.enter("waiting", "PostgreSQL: connection refused")
    assert (relay.ready().reasons, relay.live().reasons) == (("PostgreSQL: connection refused",), ())


def test_a_relay_that_does_not_turn_neither_lives_nor_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    relay = RelayStatus()
    relay.enter("active")
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 31)
    assert relay.live().reasons == relay.ready().reasons == ("nothing has turned for 31 s",)
    relay.turn()
    assert relay.live().reasons == ()
