"""The slot's copies on standbys: asked for where nobody streams from it, and never waited for."""

from __future__ import annotations

from contextlib import closing
from uuid import uuid4

import psycopg
import pytest

from worker.postgres.named_sql import statements
from worker.relay import replication
from worker.relay import slot as slots
from worker.relay.slot import ensure_slot, let_fail_over


def test_a_slot_is_made_sure_of_while_a_relay_streams_from_it(database: str) -> None:
    slot = f"slot_{uuid4().hex}"
    assert ensure_slot(database, slot)
    with closing(replication.start(replication.connect(database), slot)):
        assert not ensure_slot(database, slot)


def test_a_slot_that_is_taken_just_then_is_left_as_it_is(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slot = f"slot_{uuid4().hex}"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])
        if connection.info.server_version < 170_000:
            pytest.skip("no copies on standbys")
        sql = statements("relay")
        with closing(replication.start(replication.connect(database), slot)), replication.connect(database) as other:
            with monkeypatch.context() as patched:
                patched.setattr(slots, "statements", lambda _: {**sql, "slot_may_change": "SELECT true"})
                let_fail_over(other, slot)
            assert connection.execute("SELECT failover FROM pg_replication_slots WHERE slot_name = %s", [slot]).fetchone() == (False,)
        with replication.connect(database) as other:
            let_fail_over(other, slot)
        assert connection.execute("SELECT failover FROM pg_replication_slots WHERE slot_name = %s", [slot]).fetchone() == (True,)
