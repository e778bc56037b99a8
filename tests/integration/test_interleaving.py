"""Aggregates don't depend on each other's order: however their records are interleaved and cut into batches, each comes to the same."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.support import refusals
from tests.support.pipelines import aggregate_of, assert_sound, intake, outcomes
from tests.support.records import Topic
from tests.support.roles import as_writer
from worker.postgres.connection import UnitOpener
from worker.postgres.storages import STORAGES
from worker.recovery import process_reliably

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from worker.client import Outgoing
    from worker.envelope import Record


def interleaved(asked: Iterable[Outgoing], random: Random) -> Iterator[Outgoing]:
    """In another order, which keeps that of each aggregate's own records."""
    waiting: dict[tuple[str, bytes], list[Outgoing]] = defaultdict(list)
    for record in asked:
        waiting[record.topic, record.key].append(record)
    while waiting:
        subject = random.choice(list(waiting))
        yield waiting[subject].pop(0)
        if not waiting[subject]:
            del waiting[subject]


def batches(records: Iterable[Record], random: Random) -> Iterator[list[Record]]:
    """Runs of one topic, cut now and then."""
    batch: list[Record] = []
    for record in records:
        if batch and (batch[0].topic != record.topic or random.random() < 0.2):
            yield batch
            batch = []
        batch.append(record)
    yield batch


@pytest.mark.parametrize("seed", range(4))
def test_every_record_comes_to_the_same_however_aggregates_are_interleaved(database: str, seed: int) -> None:
    random = Random(seed)  # noqa: S311 - repeatable, not secret
    asked = refusals.rounds()[0]
    topics = {record.topic: Topic(record.topic, now=refusals.NOW) for record, _ in asked}
    records = [
        topics[each.topic].append_raw(each.key, each.value, each.headers) for each in interleaved((each for each, _ in asked), random)
    ]

    async def process() -> None:
        opener = UnitOpener(as_writer(database), STORAGES)
        for batch in batches(records, random):
            whole = intake(database, aggregate_of(batch), opener)
            await process_reliably(batch, replace(whole, now=lambda: refusals.NOW))
        await opener.close()

    asyncio.run(process())
    due = {dict(record.headers)["ce_id"].decode(): code or "facts" for record, code in asked}
    assert outcomes(database) == due
    assert_sound(database)
