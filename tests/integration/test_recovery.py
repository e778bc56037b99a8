"""A batch that can't be saved as it is: records at fault are singled out in few steps, a pause and a silent server are waited out."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.pipelines import intake, outcomes
from tests.support.records import CODEC, Topic, create
from worker import pipeline, recovery
from worker.domain import slo
from worker.domain.aggregate import SLO
from worker.postgres import connection
from worker.recovery import process_reliably
from worker.registry import WriterIds
from worker.signs import Signs

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from worker.domain.outcome import Context
    from worker.envelope import Record
    from worker.pipeline import Intake, Unseen

pytestmark = pytest.mark.timeout(120)


def process(whole: Intake, batch: Sequence[Record]) -> Signs:
    signs = Signs()

    async def and_close() -> None:
        try:
            await process_reliably(batch, whole, signs)
        finally:
            await whole.open_unit.close()  # type: ignore[attr-defined]

    asyncio.run(and_close())
    return signs


def test_each_record_at_fault_is_found_in_a_huge_batch_by_halving_it(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = Topic()
    batch = [topic.append(create(), f"slo-{number}", intent_id=f"intent-{number}") for number in range(2_000)]
    at_fault = {"slo-0", "slo-777", "slo-1999"}
    sizes: list[int] = []
    honest = pipeline.process_batch

    async def counted(records: Sequence[Record], whole: Intake, missing: Collection[int]) -> Unseen:
        sizes.append(len(records))
        return await honest(records, whole, missing)

    def decide(state: Any, command: Any, context: Context) -> Any:  # noqa: ANN401 - as the aggregate has it
        if context.aggregate_id in at_fault:
            raise ZeroDivisionError
        return slo.decide(state, command, context)

    monkeypatch.setattr(recovery, "process_batch", counted)
    process(replace(intake(database, SLO), aggregate=replace(SLO, decide=decide)), batch)
    found = outcomes(database)
    assert len(found) == 2_000
    assert sum(code == "INTERNAL_ERROR" for code in found.values()) == 3
    assert sum(outcome == "facts" for outcome in found.values()) == 1_997
    assert len(sizes) <= 1 + 3 * 2 * 11  # two halves a level, eleven levels, three records


def test_records_with_an_unseen_schema_id_and_what_lies_behind_them_are_left_also_where_another_is_at_fault(database: str) -> None:
    topic = Topic()

    def record(slo_id: str, partition: int, schema_id: int | None = None) -> Record:
        made = topic.append(create(), slo_id, intent_id=slo_id, partition=partition)
        return made if schema_id is None else made._replace(value=b"\x00" + schema_id.to_bytes(4, "big") + (made.value or b"")[10:])

    def decide(state: Any, command: Any, context: Context) -> Any:  # noqa: ANN401 - as the aggregate has it
        if context.aggregate_id == "at-fault":
            raise ZeroDivisionError
        return slo.decide(state, command, context)

    batch = [
        record("before", 0),
        record("elsewhere", 1, 8),
        record("unseen", 0, 7),
        record("at-fault", 1),
        record("behind", 0),
        record("nonesuch", 2, 9),
        record("last-elsewhere", 1),
    ]
    seen = {8: CODEC.headers["CreateSLORequested"][2:]}
    ids = WriterIds(lambda _: None, seen.values())
    ids._writers |= seen
    whole = intake(database, SLO)
    emitter = replace(whole.emitter, codec=replace(CODEC, writer_of_id=ids.known))
    whole = replace(whole, aggregate=replace(SLO, decide=decide), emitter=emitter)

    async def twice() -> tuple[Unseen, Unseen]:
        first = await process_reliably(batch, whole, missing={9})
        assert not {"unseen", "behind"} & set(outcomes(database)), "a partition is decided in its order"
        left = [one for one in batch if first.holds(one.partition, one.offset)]
        ids._writers[7] = seen[8]
        second = await process_reliably(left, whole)
        await whole.open_unit.close()  # type: ignore[attr-defined]
        return first, second

    first, second = asyncio.run(twice())
    assert (first.first_offsets, first.schema_ids) == ({0: 1}, {0: [7]})
    assert (second.first_offsets, second.schema_ids) == ({}, {})
    found = outcomes(database)
    (fault,) = [key for key, code in found.items() if code == "INTERNAL_ERROR"]
    assert fault.startswith("sre.slo.intents.v1/1/1/")
    decided = dict.fromkeys(["before", "elsewhere", "last-elsewhere", "unseen", "behind"], "facts")
    assert found == decided | {fault: "INTERNAL_ERROR", "nonesuch": "SCHEMA_INVALID"}


def test_a_process_that_was_paused_in_a_transaction_rejects_nothing(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SESSION", (*connection.SESSION, "SET transaction_timeout = '200ms'"))
    honest, pauses = pipeline.decide, [1.0]

    def decide(*arguments: Any) -> None:  # noqa: ANN401 - as the pipeline has it
        if pauses:
            time.sleep(pauses.pop())
        honest(*arguments)

    monkeypatch.setattr(pipeline, "decide", decide)
    signs = process(intake(database, SLO), [Topic().append(create(), "checkout")])
    assert list(outcomes(database).values()) == ["facts"]
    assert signs.steps == 2  # an attempt that an outage ended, and a batch
    assert signs.outages == {}


def test_a_server_that_does_not_answer_is_given_up_and_asked_again(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "ATTEMPT_SECONDS", 0.3)
    honest, hangs = pipeline.find, [True]
    seen: list[str] = []

    async def find(*arguments: Any) -> Any:  # noqa: ANN401 - as the pipeline has it
        if hangs:
            hangs.pop()
            await arguments[1].connection.execute("SELECT pg_sleep(30)")
        seen.extend(signs.outages.values())
        return await honest(*arguments)

    monkeypatch.setattr(pipeline, "find", find)
    whole, signs = intake(database, SLO), Signs()

    async def and_close() -> None:
        try:
            await process_reliably([Topic().append(create(), "checkout")], whole, signs)
        finally:
            await whole.open_unit.close()  # type: ignore[attr-defined]

    began = time.monotonic()
    asyncio.run(and_close())
    assert time.monotonic() - began < 20
    assert list(outcomes(database).values()) == ["facts"]
    assert set(seen) == {"PostgreSQL did not answer within 0 s"}  # at each attempt after the first, however many a busy machine needs
