"""The textbook worker: one message, one transaction, one produce that is waited for; the same handlers. Prints its rate and ends."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import uvloop
from aiokafka import AIOKafkaProducer

from worker.agents import to_record
from worker.app import build_faust_app, build_intake
from worker.codec import load_codec
from worker.domain.aggregate import SLO
from worker.emission import Emitter
from worker.pipeline import process_batch
from worker.service import serve
from worker.settings import Settings
from worker.topics import REJECTED_TOPIC, facts_topic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import faust

    from worker.postgres.outbox import OutboxRow
    from worker.postgres.unit_of_work import UnitOfWork


class WithoutOutbox:
    """A unit of work that keeps the facts aside, to be produced by hand after the commit."""

    def __init__(self, unit: UnitOfWork, aside: list[OutboxRow]) -> None:
        self._unit = unit
        self._aside = aside

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._unit, name)

    async def save(self, topic: str, inbox_rows: Any, outbox_rows: Sequence[OutboxRow], changes: Any, next_offsets: Any) -> None:  # noqa: ANN401
        await self._unit.save(topic, inbox_rows, [], changes, next_offsets)
        self._aside.extend(outbox_rows)


def build(scratch: Path, expected: int) -> faust.App:
    settings = Settings.from_environment()
    app = build_faust_app(settings, scratch)
    intake = build_intake(settings, SLO, Emitter(load_codec(), {facts_topic("slo"): 12, REJECTED_TOPIC: 12}))
    facts: list[OutboxRow] = []

    @asynccontextmanager
    async def without_outbox() -> AsyncIterator[WithoutOutbox]:
        async with intake.open_unit() as unit:
            yield WithoutOutbox(unit, facts)

    one_by_one = replace(intake, open_unit=without_outbox)  # type: ignore[arg-type]

    async def textbook(stream: Any) -> None:  # noqa: ANN401 - Faust is untyped
        producer = AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers, enable_idempotence=True)
        await producer.start()
        seen, began = 0, 0.0
        async for event in stream.events():
            if not seen:
                began = time.perf_counter()
            await process_batch([to_record(event)], one_by_one)
            for fact in facts:
                await producer.send_and_wait("bench.textbook.facts", fact.payload, fact.key)
            facts.clear()
            seen += 1
            if seen >= expected:
                print(json.dumps({"per_second": seen / (time.perf_counter() - began)}), flush=True)
                os._exit(0)

    app.agent(app.topic("sre.slo.intents.v1", key_serializer="raw", value_serializer="raw"), name="textbook", concurrency=1)(textbook)
    return app


if __name__ == "__main__":
    with TemporaryDirectory() as directory:
        uvloop.run(serve(partial(build, Path(directory), int(sys.argv[1]))))
