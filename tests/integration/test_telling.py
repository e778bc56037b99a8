"""What the pipeline tells of batches on a real PostgreSQL: what is committed, once, whatever came before it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from psycopg import errors

from tests.support.pipelines import intake, outcomes
from tests.support.records import Topic, create, window
from tests.support.roles import as_relay, as_writer
from worker import recovery
from worker.domain import slo
from worker.domain.aggregate import SLO
from worker.pipeline import STAGES
from worker.postgres.scrape import partitions_ahead
from worker.postgres.unit_of_work import UnitOfWork
from worker.recovery import process_reliably
from worker.relay.slot import ensure_slot
from worker.relay.slot_position import slot_position
from worker.telemetry.outcomes import outcome_of, rows_of
from worker.telemetry.telling import telling

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from worker.domain.outcome import Context
    from worker.envelope import Record
    from worker.pipeline import Batch, Intake


def process(whole: Intake, *batches: Sequence[Record]) -> list[Batch]:
    """What is told of these batches, one after the other."""
    heard: list[Batch] = []

    async def and_close() -> None:
        try:
            for batch in batches:
                await process_reliably(batch, replace(whole, tell=heard.append))
        finally:
            await whole.open_unit.close()  # type: ignore[attr-defined]

    asyncio.run(and_close())
    return heard


def told(batches: Sequence[Batch]) -> Counter[str]:
    return Counter(outcome_of(row) for batch in batches for row in rows_of(batch))


def test_a_batch_that_comes_again_is_told_as_duplicates(database: str) -> None:
    topic = Topic()
    batch = [topic.append(create(), intent_id="one"), topic.append(window(0)), topic.append(create(), intent_id="one")]
    first, again = process(intake(database, SLO), batch, batch)
    assert [outcome_of(row) for row in rows_of(first)] == ["accepted", "accepted", "duplicate"]
    assert told([again]) == {"duplicate": 3}
    assert list(first.stage_seconds) == list(STAGES)
    assert all(seconds > 0 for seconds in first.stage_seconds.values())


def test_attempts_that_are_rolled_back_are_not_told(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, failures = UnitOfWork.save, [errors.SerializationFailure(), errors.AdminShutdown()]

    async def save(self: UnitOfWork, *arguments: Any) -> None:  # noqa: ANN401 - as the unit has it
        if failures:
            raise failures.pop()
        await honest(self, *arguments)

    monkeypatch.setattr(UnitOfWork, "save", save)
    assert told(process(intake(database, SLO), [Topic().append(create())])) == {"accepted": 1}


def test_a_fault_of_ours_is_told_with_its_code_and_logged_with_its_intent(database: str, caplog: pytest.LogCaptureFixture) -> None:
    def decide(state: Any, command: Any, context: Context) -> Any:  # noqa: ANN401 - as the aggregate has it
        if context.aggregate_id == "bad":
            raise ZeroDivisionError
        return slo.decide(state, command, context)

    topic = Topic()
    batch = [topic.append(create(), name, intent_id=name) for name in ("good", "bad", "better")]
    heard = process(replace(intake(database, SLO), aggregate=replace(SLO, decide=decide)), batch)
    assert told(heard) == {"accepted": 2, "rejected": 1}
    assert [row.code for one in heard for row in one.inbox_rows if row.code] == ["INTERNAL_ERROR"]
    [line] = [record for record in caplog.records if record.name == recovery.__name__ and record.levelno == logging.ERROR]
    assert (line.__dict__["intent_id"], line.__dict__["tenant_id"]) == ("bad", "acme")


def test_telemetry_that_fails_rejects_nothing(database: str) -> None:
    whole = intake(database, SLO)

    def fail(_: Batch) -> None:
        raise ZeroDivisionError

    async def and_close() -> None:
        try:
            await process_reliably([Topic().append(create(), intent_id="one")], replace(whole, tell=telling(fail)))
        finally:
            await whole.open_unit.close()  # type: ignore[attr-defined]

    asyncio.run(and_close())
    assert outcomes(database) == {"one": "facts"}


def test_the_writer_learns_how_far_ahead_partitions_reach(database: str) -> None:
    found = partitions_ahead(as_writer(database))
    assert found["inbox"] >= 1
    assert found["outbox"] >= 6


def test_the_relay_learns_where_its_slot_is(database: str) -> None:
    slot = f"slot_{uuid4().hex}"
    assert slot_position(as_relay(database), slot) is None
    ensure_slot(as_relay(database), slot)
    found = slot_position(as_relay(database), slot)
    assert found is not None
    assert found.restart_lsn <= found.confirmed_lsn <= found.current_lsn
    assert found.safe_wal_bytes is None
