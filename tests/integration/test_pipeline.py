"""A batch against a real PostgreSQL: one outcome a record, whatever comes twice, late, broken or at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import errors

from tests.support.records import CODEC, NOW, Topic, create, window
from tests.support.roles import as_writer
from worker.domain import slo
from worker.domain.aggregate import SLO
from worker.domain.ids import uid
from worker.domain.outcome import Context
from worker.emission import Emitter
from worker.pipeline import Intake, process_batch
from worker.postgres.connection import UnitOpener
from worker.postgres.storages import STORAGES
from worker.recovery import process_reliably

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from worker.envelope import Record

PARTITIONS = {"sre.slo.facts.v1": 12, "sre.intents.rejected.v1": 12}


def intake(database: str, now: datetime = NOW, **changes: Any) -> Intake:  # noqa: ANN401
    whole = Intake(
        topic="sre.slo.intents.v1",
        aggregate=SLO,
        emitter=Emitter(CODEC, PARTITIONS),
        open_unit=UnitOpener(as_writer(database), STORAGES),
        now=lambda: now,
        inbox_retention=timedelta(days=30),
    )
    return replace(whole, **changes)


def process(database: str, records: Sequence[Record], now: datetime = NOW, **changes: Any) -> None:  # noqa: ANN401
    asyncio.run(process_and_close(intake(database, now, **changes), records))


async def process_and_close(whole: Intake, records: Sequence[Record]) -> None:
    try:
        await process_reliably(records, whole)
    finally:
        if isinstance(whole.open_unit, UnitOpener):
            await whole.open_unit.close()


def outcomes(database: str) -> list[tuple[str, str, str | None]]:
    """(intent id, outcome, code) in the order of their records."""
    return query(database, 'SELECT intent_id, outcome, code FROM inbox ORDER BY topic, partition, "offset"')


def query(database: str, statement: str) -> list[Any]:
    with psycopg.connect(database) as connection:
        return connection.execute(statement).fetchall()


def test_an_intent_becomes_inbox_state_and_outbox_at_once(database: str) -> None:
    topic = Topic()
    process(database, [topic.append(create(), intent_id="c"), topic.append(window(0), intent_id="w")])
    assert outcomes(database) == [("c", "facts", None), ("w", "facts", None)]
    facts = query(database, "SELECT id, type, key, aggregate_version, causation_id FROM outbox ORDER BY aggregate_version")
    assert [(row[1].rpartition(".")[2], row[3], row[4]) for row in facts] == [
        ("SLOCreated", 1, "c"),
        ("SLIWindowRecorded", 2, "w"),
        ("SLOBudgetExhausted", 3, "w"),
    ]
    assert [row[0] for row in facts] == [uid("fact", "acme", "slo", "checkout", str(version)) for version in (1, 2, 3)]
    assert facts[2][2] == b"acme/checkout/3"
    recorded = query(database, "SELECT fact_ids FROM inbox WHERE intent_id = 'w'")[0][0]
    assert recorded == [row[0] for row in facts[1:]]
    assert query(database, "SELECT version, budget_status, current_budget_remaining FROM slo")[0][:2] == (3, "exhausted")
    assert query(database, "SELECT partition, next_offset FROM intake_position") == [(0, 2)]


def test_a_repeat_changes_nothing_in_the_same_batch_or_a_later_one(database: str) -> None:
    topic = Topic()
    batch = [topic.append(create(), intent_id="c"), topic.append(create(), intent_id="c"), topic.append(window(0), intent_id="w")]
    process(database, batch)
    before = everything(database)
    process(database, [topic.append(window(0), intent_id="w"), topic.append(create(), intent_id="c", partition=3)])
    assert everything(database) == before
    assert outcomes(database) == [("c", "facts", None), ("w", "facts", None)]


def test_a_redelivered_batch_changes_nothing(database: str) -> None:
    topic = Topic()
    batch = [topic.append(create()), topic.append(window(0)), topic.append_raw(b"k", b"garbage", []), topic.append(window(0, 98))]
    process(database, batch)
    before = everything(database)
    process(database, batch)
    process(database, batch[1:3])
    assert everything(database) == before
    assert [outcome for _, outcome, _ in outcomes(database)] == ["facts", "facts", "rejected", "rejected"]


def everything(database: str) -> list[Any]:
    return [query(database, f"SELECT * FROM {table} ORDER BY 1, 2, 3") for table in ("inbox", "outbox", "slo", "sli_ledger")]  # noqa: S608


def test_an_id_with_other_content_is_refused_and_stays_with_the_first(database: str) -> None:
    topic = Topic()
    process(database, [topic.append(create(), intent_id="c"), topic.append(window(0), intent_id="c")])
    process(database, [topic.append(create(), intent_id="c", time=NOW - timedelta(days=8))])  # another week's partition of the inbox
    assert outcomes(database) == [
        ("c", "facts", None),
        (f"sre.slo.intents.v1/0/1/{stamp()}", "rejected", "IDEMPOTENCY_KEY_REUSED"),
        (f"sre.slo.intents.v1/0/2/{stamp()}", "rejected", "IDEMPOTENCY_KEY_REUSED"),
    ]


def stamp() -> int:
    return int(NOW.timestamp() * 1000)


def test_an_id_is_unique_per_tenant_only(database: str) -> None:
    topic = Topic()
    process(database, [topic.append(create(), intent_id="c"), topic.append(create(), tenant="other", intent_id="c")])
    assert [outcome for _, outcome, _ in outcomes(database)] == ["facts", "facts"]
    assert query(database, "SELECT tenant_id, version FROM slo ORDER BY 1") == [("acme", 1), ("other", 1)]


def test_what_is_wrong_with_one_record_harms_no_other(database: str) -> None:
    topic = Topic()
    good = topic.append(create())
    bare = dict(good.headers)
    batch = [
        good,
        topic.append_raw(b"checkout", b"\xff" * 40, bare.items()),  # garbage under a used id
        topic.append_raw(b"checkout", b"\xff" * 40, {**bare, "ce_id": b"g"}.items()),
        topic.append_raw(b"checkout", good.value, {name: value for name, value in bare.items() if name != "ce_tenantid"}.items()),
        topic.append_raw(b"checkout", b"x" * 300_000, {**bare, "ce_id": b"h"}.items()),
        topic.append_raw(b"checkout", good.value, {**bare, "ce_id": b"t", "ce_type": b"sre.core.v1.NoSuchRequested"}.items()),
        topic.append(window(0), intent_id="future", time=NOW + timedelta(minutes=6)),
        topic.append(window(0), intent_id="expired", time=NOW - timedelta(days=31)),
        topic.append(create(target=Decimal(0)), intent_id="zero"),
        topic.append(window(0), "nobody", intent_id="nobody"),
        topic.append_raw(b"che\x00ckout", good.value, {**bare, "ce_id": b"nul", "ce_subject": b"che\x00ckout"}.items()),
        topic.append(window(1), intent_id="fine"),
    ]
    process(database, batch)
    assert [(code or outcome) for _, outcome, code in outcomes(database)] == [
        "facts",
        "IDEMPOTENCY_KEY_REUSED",
        "SCHEMA_INVALID",
        "TENANT_REQUIRED",
        "MESSAGE_TOO_LARGE",
        "UNKNOWN_INTENT",
        "TIMESTAMP_IN_FUTURE",
        "INTENT_EXPIRED",
        "SLO_TARGET_OUT_OF_RANGE",
        "SLO_NOT_FOUND",
        "SCHEMA_INVALID",
        "facts",
    ]
    used_up = {row[0] for row in query(database, "SELECT intent_id FROM inbox WHERE tenant_id = 'acme'")}
    assert used_up == {dict(good.headers)["ce_id"].decode(), "g", "zero", "nobody", "nul", "fine"}  # type: ignore[union-attr]
    rejected = query(database, "SELECT payload, key FROM outbox WHERE topic = 'sre.intents.rejected.v1'")
    assert len(rejected) == 10
    decoded = [CODEC.decode("IntentRejected", payload) for payload, _ in rejected]
    by_offset = {item["offset"]: item for item in decoded}
    for record in batch[1:11]:
        item = by_offset[record.offset]
        assert (item["key"], item["value"]) == (record.key, record.value)
        assert [(header["name"], header["value"]) for header in item["headers"]] == list(record.headers)


def test_a_record_refused_by_the_clock_keeps_that_outcome_when_it_comes_again_later(database: str) -> None:
    topic = Topic()
    early = topic.append(create(), intent_id="c", time=NOW + timedelta(minutes=6))
    process(database, [early])
    process(database, [early], now=NOW + timedelta(minutes=10))
    assert [code for _, _, code in outcomes(database)] == ["TIMESTAMP_IN_FUTURE"]
    process(database, [topic.append(create(), intent_id="c", time=NOW + timedelta(minutes=6))], now=NOW + timedelta(minutes=10))
    assert [(code or outcome) for _, outcome, code in outcomes(database)] == ["TIMESTAMP_IN_FUTURE", "facts"]


def test_a_record_accepted_before_it_expired_keeps_that_outcome(database: str) -> None:
    topic = Topic()
    record = topic.append(create(), intent_id="c", time=NOW - timedelta(days=29))
    process(database, [record])
    process(database, [record], now=NOW + timedelta(days=5))
    assert outcomes(database) == [("c", "facts", None)]


def test_records_of_a_topic_made_anew_are_new(database: str) -> None:
    process(database, [Topic().append(create(), "one")])
    process(database, [Topic(now=NOW + timedelta(hours=1)).append(create(), "two")], now=NOW + timedelta(hours=1))
    assert [outcome for _, outcome, _ in outcomes(database)] == ["facts", "facts"]


def test_two_workers_on_one_partition_decide_each_record_once(database: str) -> None:
    topic = Topic()
    batch = [topic.append(create()), *(topic.append(window(minute)) for minute in range(50))]
    in_parallel(lambda: intake(database), [batch] * 4)
    assert [outcome for _, outcome, _ in outcomes(database)] == ["facts"] * 51
    assert_contiguous(database)


def test_two_workers_that_create_the_same_slo_leave_one_creation(database: str) -> None:
    topic = Topic()
    batches = [
        [topic.append(create(), partition=partition), topic.append(window(partition), partition=partition)] for partition in range(6)
    ]
    in_parallel(lambda: intake(database), batches)
    results = [(code or outcome) for _, outcome, code in outcomes(database)]
    assert results.count("SLO_ALREADY_EXISTS") == 5
    assert results.count("facts") == 7
    assert_contiguous(database)


def test_one_id_with_two_times_in_two_partitions_at_once_is_used_once(database: str) -> None:
    for attempt in range(10):
        topic = Topic()
        topic.ends = {0: attempt, 1: attempt}
        name = f"id-{attempt}"
        first = topic.append(create(), name, intent_id=name, partition=0)
        second = topic.append(create(), name, intent_id=name, partition=1, time=NOW - timedelta(days=9))
        in_parallel(lambda: intake(database), [[first], [second]])
    assert query(database, "SELECT outcome, code, count(*) FROM inbox GROUP BY 1, 2 ORDER BY 1") == [
        ("facts", None, 10),
        ("rejected", "IDEMPOTENCY_KEY_REUSED", 10),
    ]


def in_parallel(make_intake: Callable[[], Intake], batches: Sequence[Sequence[Record]]) -> None:
    async def all_at_once() -> None:
        await asyncio.gather(*(process_and_close(make_intake(), batch) for batch in batches))

    asyncio.run(all_at_once())


def assert_contiguous(database: str) -> None:
    versions = [row[0] for row in query(database, "SELECT aggregate_version FROM outbox WHERE aggregate_version IS NOT NULL ORDER BY 1")]
    assert versions == list(range(1, len(versions) + 1))
    assert query(database, "SELECT version FROM slo") == [(len(versions),)]


def test_a_fault_of_ours_costs_one_record_its_outcome_and_no_other(database: str) -> None:
    topic = Topic()
    batch = [topic.append(create(), f"slo-{number}") for number in range(9)]

    def decide(state: Any, command: Any, context: Context) -> Any:  # noqa: ANN401
        if context.aggregate_id == "slo-5":
            raise ZeroDivisionError
        return slo.decide(state, command, context)

    process(database, batch, aggregate=replace(SLO, decide=decide))
    results = [(code or outcome) for _, outcome, code in outcomes(database)]
    assert results == ["facts"] * 5 + ["INTERNAL_ERROR"] + ["facts"] * 3
    again = topic.append(create(), "slo-5", intent_id=dict(batch[5].headers)["ce_id"].decode())  # type: ignore[union-attr]
    process(database, [again])
    assert outcomes(database)[-1][1:] == ("facts", None), "an INTERNAL_ERROR leaves the id free for the replay"


def test_a_broken_schema_rejects_nobody(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("ALTER TABLE slo RENAME TO slo_lost")
    with pytest.raises(errors.UndefinedTable):
        process(database, [Topic().append(create())])
    assert outcomes(database) == []


def test_leaving_a_batch_early_writes_nothing(database: str) -> None:
    async def interrupted() -> None:
        whole = intake(database)
        broken = replace(whole, emitter=replace(whole.emitter, partitions={}))
        with pytest.raises(KeyError):
            await process_batch([Topic().append(create())], broken)
        assert isinstance(whole.open_unit, UnitOpener)
        await whole.open_unit.close()

    asyncio.run(interrupted())
    assert everything(database) == [[], [], [], []]


def test_a_lost_connection_is_waited_out(database: str) -> None:
    topic = Topic()
    first, second = topic.append(create()), topic.append(window(0))

    async def with_a_cut() -> None:
        whole = intake(database)
        await process_reliably([first], whole)
        with psycopg.connect(database, autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        await process_and_close(whole, [second])

    asyncio.run(with_a_cut())
    assert [outcome for _, outcome, _ in outcomes(database)] == ["facts", "facts"]


def test_folding_the_outbox_gives_the_row_ledger_included(database: str) -> None:
    topic = Topic()
    records = [topic.append(create(window="30d"))]
    for number, minute in enumerate((0, 1, 61, 5, 1, 3000, 60 * 24 * 4, 2, 60 * 24 * 35)):
        command = replace(window(0, 100 - number), start=window(0).start - timedelta(days=36) + timedelta(minutes=minute), revision=number)
        records.append(topic.append(command))
    for at in range(0, len(records), 3):
        process(database, records[at : at + 3])
    state: Any = None
    for name, payload in query(database, "SELECT type, payload FROM outbox WHERE aggregate_version IS NOT NULL ORDER BY aggregate_version"):
        short = name.rpartition(".")[2]
        fact = SLO.facts[short].validate_python(CODEC.decode(short, payload))
        state = SLO.evolve(state, fact, Context("acme", "checkout", NOW))

    async def stored() -> Any:  # noqa: ANN401
        async with await psycopg.AsyncConnection.connect(database) as connection:
            await connection.execute("SET TIME ZONE 'UTC'")
            everything_updated = slo.UpdateSLO(**{name: getattr(create(), name) for name in slo.CreateSLO.__dataclass_fields__})
            found = await STORAGES["slo"].lock(connection, {("acme", "checkout"): [everything_updated]})
            return found["acme", "checkout"]

    assert asyncio.run(stored()) == state
    assert len(state.ledger) == query(database, "SELECT count(*) FROM sli_ledger")[0][0]
