"""One batch: receive → decide → save. Every record leaves with exactly one outcome, in one transaction, or none does."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from worker.decisions import Decisions
from worker.domain.rejection import Rejection
from worker.emission import Emitter, position_of
from worker.postgres.inbox import intent_key
from worker.receiving import Fit, Received, Refused, Unfit, Unread, anybody, receive

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime, timedelta
    from uuid import UUID

    from worker.authentication import Authentication
    from worker.domain.aggregate import Aggregate
    from worker.domain.outcome import Context, NoChange
    from worker.envelope import Record
    from worker.postgres.inbox import InboxRow
    from worker.postgres.storage import Key
    from worker.postgres.unit_of_work import Found, UnitOfWork


STAGES: Final = ("receive", "find", "decide", "save")


@dataclass(frozen=True, slots=True)
class Batch:
    """Records whose outcomes are committed; `inbox_rows`, in the order of the records, are of those that got theirs now.

    `stage_seconds` is what receive, find, decide and save (with the commit) took.
    """

    topic: str
    received: Sequence[Received]
    inbox_rows: Sequence[InboxRow]
    stage_seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Intake:
    """What a batch is processed with: one aggregate's rules, the way to the bus, the database and the clock.

    Without `authentication` signatures are ignored. `tell` hears of every batch once it is saved, and must not raise.
    """

    topic: str
    aggregate: Aggregate
    emitter: Emitter
    open_unit: Callable[[], AbstractAsyncContextManager[UnitOfWork]]
    now: Callable[[], datetime]
    inbox_retention: timedelta
    authentication: Authentication | None = None
    tell: Callable[[Batch], None] | None = None


@dataclass(frozen=True, slots=True)
class Unseen:
    """What a batch left undecided: of each partition here all that lies at this offset or behind it, for schema ids to be asked about."""

    first_offsets: Mapping[int, int] = field(default_factory=dict)
    schema_ids: Mapping[int, Sequence[int]] = field(default_factory=dict)

    def holds(self, partition: int, offset: int) -> bool:
        return partition in self.first_offsets and offset >= self.first_offsets[partition]

    def joined(self, other: Unseen) -> Unseen:
        """Of two batches that hold different partitions back."""
        return Unseen({**self.first_offsets, **other.first_offsets}, {**self.schema_ids, **other.schema_ids})


async def process_batch(records: Sequence[Record], intake: Intake, missing: Collection[int] = ()) -> Unseen:
    """Decide records of one topic in their order and save all outcomes, or raise and save none; what nobody can read yet is left.

    A record that was decided before, in an earlier batch or in this one, changes nothing. `missing` are ids that the schema registry does
    not have. Raises psycopg.Error, and whatever a fault of ours raises.
    """
    began = time.perf_counter()
    received = await receive_all(records, intake, missing)
    unseen = unseen_among(received)
    if unseen.first_offsets:
        received = [item for item in received if not unseen.holds(item.record.partition, item.record.offset)]
        records = [item.record for item in received]
        if not received:
            return unseen
    was_received = time.perf_counter()
    async with intake.open_unit() as unit:
        found = await find(received, unit, intake.topic, commands_by_aggregate(received, intake.aggregate))
        was_found = time.perf_counter()
        decisions = Decisions(intake.aggregate.name, intake.emitter, found.outcomes, found.states)
        for item in received:
            decide(item, decisions, intake.aggregate)
        was_decided = time.perf_counter()
        await unit.save(intake.topic, decisions.inbox_rows, decisions.outbox_rows, decisions.changes(), next_offsets(records))
    tell_saved(intake, received, decisions, began, was_received, was_found, was_decided)
    return unseen


async def reject_batch(records: Sequence[Record], intake: Intake, rejection: Rejection) -> None:
    """Give the records that are not decided yet this outcome, without using up an id."""
    began = time.perf_counter()
    received = await receive_all(records, intake)
    was_received = time.perf_counter()
    async with intake.open_unit() as unit:
        found = await find(received, unit, intake.topic, {})
        was_found = time.perf_counter()
        decisions = Decisions(intake.aggregate.name, intake.emitter, found.outcomes, {})
        for item in received:
            if not decisions.is_decided(item):
                decisions.reject_position(item, rejection)
        was_decided = time.perf_counter()
        await unit.save(intake.topic, decisions.inbox_rows, decisions.outbox_rows, {}, next_offsets(records))
    tell_saved(intake, received, decisions, began, was_received, was_found, was_decided)


def tell_saved(intake: Intake, received: Sequence[Received], decisions: Decisions, *moments: float) -> None:
    """`moments`: when the batch began and when each stage but the last ended."""
    if intake.tell is not None:
        ended = (*moments[1:], time.perf_counter())
        stage_seconds = {stage: end - start for stage, start, end in zip(STAGES, moments, ended, strict=True)}
        intake.tell(Batch(intake.topic, received, decisions.inbox_rows, stage_seconds))


async def receive_all(records: Sequence[Record], intake: Intake, missing: Collection[int] = ()) -> list[Received]:
    """Outside the transaction: nothing waits for the keys, or for signatures, with locks in its hands."""
    authentication = intake.authentication
    who_asks = anybody if authentication is None else await authentication.who_asks(records)
    only_count = authentication is not None and authentication.only_count
    now, aggregate, codec = intake.now(), intake.aggregate, intake.emitter.codec.without(missing)
    received = [receive(record, aggregate, codec, now, intake.inbox_retention, who_asks, only_count=only_count) for record in records]
    if authentication is not None and only_count:
        authentication.count(received)
    return received


def unseen_among(received: Sequence[Received]) -> Unseen:
    """What follows a record that nobody can read is left too: a partition is decided in its order."""
    first_offsets: dict[int, int] = {}
    schema_ids: dict[int, list[int]] = defaultdict(list)
    for item in received:
        if isinstance(item.verdict, Unread):
            first_offsets.setdefault(item.record.partition, item.record.offset)
            schema_ids[item.record.partition].append(item.verdict.schema_id)
    return Unseen(first_offsets, schema_ids)


async def find(received: Sequence[Received], unit: UnitOfWork, topic: str, commands: Mapping[str, Mapping[Key, Sequence[Any]]]) -> Found:
    """The locked states, and earlier outcomes: of a record below its partition's position also one under that position.

    Such a record came before. It may have been refused by a clock that it passes now, or the other way round.
    """
    intents = [item.intent for item in received if item.intent is not None and not isinstance(item.verdict, Refused)]
    partitions = {item.record.partition for item in received}
    tenants = {item.tenant_id for item in received}
    found = await unit.find({"", *tenants}, topic, partitions, {intent: intent_key(*intent) for intent in intents}, commands)
    again: dict[Key, UUID] = {}
    for item in received:
        if item.record.offset < found.positions.get(item.record.partition, 0):
            position = ("", position_of(item.record))
            again[position] = intent_key(*position)
            if item.intent is not None:
                again[item.intent] = intent_key(*item.intent)
    if again:
        found.outcomes.update(await unit.outcomes_of(again))
    return found


def commands_by_aggregate(received: Sequence[Received], aggregate: Aggregate) -> dict[str, dict[Key, list[Any]]]:
    """The commands to be decided by every aggregate that they are asked of or name."""
    commands: dict[str, dict[Key, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for item in received:
        if isinstance(item.verdict, Fit):
            envelope, command = item.verdict.envelope, item.verdict.command
            commands[aggregate.name][envelope.tenant_id, envelope.subject].append(command)
            joint = aggregate.joint.get(type(command))
            if joint is not None:
                for name, aggregate_id in joint.others(command):
                    commands[name][envelope.tenant_id, aggregate_id].append(command)
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
            outcome = decide_command(command, context, decisions, aggregate)
            if isinstance(outcome, Rejection):
                decisions.reject_intent(item, envelope, outcome)
            elif isinstance(outcome, tuple):
                decisions.record_facts(item, envelope, context, outcome)
            else:
                decisions.record_no_change(item, envelope)


def decide_command(command: Any, context: Context, decisions: Decisions, aggregate: Aggregate) -> tuple[Any, ...] | NoChange | Rejection:  # noqa: ANN401
    tenant_id = context.tenant_id
    state = decisions.state_of((aggregate.name, tenant_id, context.aggregate_id))
    joint = aggregate.joint.get(type(command))
    if joint is None:
        return aggregate.decide(state, command, context)
    others = {(name, named): decisions.state_of((name, tenant_id, named)) for name, named in joint.others(command)}
    return joint.decide(state, command, context, others)


def next_offsets(records: Sequence[Record]) -> dict[int, int]:
    """One past the highest offset of each partition."""
    offsets: dict[int, int] = {}
    for record in records:
        offsets[record.partition] = max(offsets.get(record.partition, 0), record.offset + 1)
    return offsets
