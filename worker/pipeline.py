"""One batch: receive → decide → save. Every record leaves with exactly one outcome, in one transaction, or none does."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from worker.decisions import Decisions
from worker.domain.rejection import Rejection
from worker.emission import Emitter, position_of
from worker.postgres.inbox import intent_key
from worker.receiving import Fit, Received, Refused, Unfit, receive

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime, timedelta
    from uuid import UUID

    from worker.domain.aggregate import Aggregate
    from worker.envelope import Record
    from worker.postgres.inbox import Decided
    from worker.postgres.storage import Key
    from worker.postgres.unit_of_work import UnitOfWork


@dataclass(frozen=True, slots=True)
class Intake:
    """What a batch is processed with: one aggregate's rules, the way to the bus, the database and the clock."""

    topic: str
    aggregate: Aggregate
    emitter: Emitter
    open_unit: Callable[[], AbstractAsyncContextManager[UnitOfWork]]
    now: Callable[[], datetime]
    inbox_retention: timedelta


async def process_batch(records: Sequence[Record], intake: Intake) -> None:
    """Decide records of one topic in their order and save all outcomes, or raise and save none.

    A record that was decided before, in an earlier batch or in this one, changes nothing.
    Raises psycopg.Error, and whatever a fault of ours raises.
    """
    received = receive_all(records, intake)
    async with intake.open_unit() as unit:
        earlier = await find_earlier_outcomes(received, unit, intake.topic)
        states = await unit.lock_states(commands_by_aggregate(received))
        decisions = Decisions(intake.aggregate.name, intake.emitter, earlier, states)
        for item in received:
            decide(item, decisions, intake.aggregate)
        await unit.save(intake.topic, decisions.inbox_rows, decisions.outbox_rows, decisions.changes(), next_offsets(records))


async def reject_batch(records: Sequence[Record], intake: Intake, rejection: Rejection) -> None:
    """Give the records that are not decided yet this outcome, without using up an id."""
    received = receive_all(records, intake)
    async with intake.open_unit() as unit:
        earlier = await find_earlier_outcomes(received, unit, intake.topic)
        decisions = Decisions(intake.aggregate.name, intake.emitter, earlier, {})
        for item in received:
            if not decisions.is_decided(item):
                decisions.reject_position(item, rejection)
        await unit.save(intake.topic, decisions.inbox_rows, decisions.outbox_rows, {}, next_offsets(records))


def receive_all(records: Sequence[Record], intake: Intake) -> list[Received]:
    now = intake.now()
    return [receive(record, intake.aggregate, intake.emitter.codec, now, intake.inbox_retention) for record in records]


async def find_earlier_outcomes(received: Sequence[Received], unit: UnitOfWork, topic: str) -> dict[Key, Decided]:
    """Outcomes of these intents; of a record below its partition's position also the one it may have under its position.

    Such a record came before. It may have been refused by a clock that it passes now, or the other way round.
    """
    positions = await unit.lock_positions(topic, {item.record.partition for item in received})
    numbered = [item.intent for item in received if item.intent is not None and not isinstance(item.verdict, Refused)]
    locked = {intent: intent_key(*intent) for intent in numbered}
    sought: dict[Key, UUID] = dict(locked)
    for item in received:
        if item.record.offset < positions.get(item.record.partition, 0):
            position = ("", position_of(item.record))
            sought[position] = intent_key(*position)
            if item.intent is not None:
                sought[item.intent] = intent_key(*item.intent)
    return await unit.earlier_outcomes(locked.values(), sought)


def commands_by_aggregate(received: Sequence[Received]) -> dict[Key, list[Any]]:
    commands: dict[Key, list[Any]] = defaultdict(list)
    for item in received:
        if isinstance(item.verdict, Fit):
            commands[item.verdict.envelope.tenant_id, item.verdict.envelope.subject].append(item.verdict.command)
    return commands


def decide(item: Received, decisions: Decisions, aggregate: Aggregate) -> None:
    """Give one record its outcome, on the states as the records before it left them."""
    if decisions.is_decided(item):
        return
    match item.verdict:
        case Refused(rejection):
            decisions.reject_position(item, rejection)
        case _ if decisions.reuses_an_id(item):
            decisions.reject_reuse(item)
        case Unfit(envelope, rejection):
            decisions.reject_intent(item, envelope, rejection)
        case Fit(envelope, command, context):
            outcome = aggregate.decide(decisions.state_of(envelope), command, context)
            if isinstance(outcome, Rejection):
                decisions.reject_intent(item, envelope, outcome)
            elif isinstance(outcome, tuple):
                decisions.record_facts(item, envelope, outcome, partial(_evolve, aggregate, context))
            else:
                decisions.record_no_change(item, envelope)


def _evolve(aggregate: Aggregate, context: Any, state: Any, fact: Any) -> Any:  # noqa: ANN401 - any aggregate's
    return aggregate.evolve(state, fact, context)


def next_offsets(records: Sequence[Record]) -> dict[int, int]:
    """One past the highest offset of each partition."""
    offsets: dict[int, int] = {}
    for record in records:
        offsets[record.partition] = max(offsets.get(record.partition, 0), record.offset + 1)
    return offsets
