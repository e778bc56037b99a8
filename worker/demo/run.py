"""Plays the story on a system that runs, as its clients would: publishes at a steady pace and reads what comes of it."""

from __future__ import annotations

import asyncio
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from worker.audit import header_values
from worker.client import publish, read_committed
from worker.codec import load_codec
from worker.demo.asking import audible_answers
from worker.errors import WorkerError
from worker.evidence import gather_evidence, outgoing_topics, to_record
from worker.messages import read_fact, read_rejection
from worker.topic_admin import partition_counts
from worker.topics import REJECTED_TOPIC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from worker.audit import Evidence
    from worker.client import Outgoing
    from worker.demo.asking import Asked
    from worker.demo.story import Story
    from worker.domain.rejection import IntentRejected
    from worker.envelope import Record
    from worker.messages import ReceivedFact
    from worker.settings import Settings

LOG_MINUTES_A_SECOND: Final = 30  # slow enough that an intent does not queue behind those of the minute before

_POLL_SECONDS: Final = 0.05
_FIRST_ANSWER_SECONDS: Final = 60  # the worker may still be joining its group
_LAST_ANSWER_SECONDS: Final = 20


class NoAnswerError(WorkerError):
    """The SLOs were asked for, and the worker or the relay did not answer."""


@dataclass(slots=True)
class Observed:
    """What the clients know so far: the publishing one of what it sent, the reading one of what came. Times are time.perf_counter()'s."""

    published: int = 0
    sent_at: dict[str, float] = field(default_factory=dict)
    first_fact_at: dict[str, float] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    facts: list[ReceivedFact] = field(default_factory=list)
    rejections: list[IntentRejected] = field(default_factory=list)

    @property
    def answers(self) -> int:
        return len(self.first_fact_at) + len(self.rejections)


def play(story: Story, settings: Settings, tick: Callable[[Observed], None]) -> tuple[Observed, Evidence]:
    """Publish the story and read what comes of it, until all has come or should have; then read everything once more from the beginning.

    `tick` is called many times a second meanwhile. Raises NoAnswerError where not even the SLOs are made, BusError where Kafka is away.
    """
    observed, ended = Observed(), Event()
    with ThreadPoolExecutor(2) as threads:
        try:
            clients = (threads.submit(_read, settings, observed, ended), threads.submit(publish, settings, _paced(story, observed, ended)))

            def wait_for(holds: Callable[[], bool], seconds: float = math.inf) -> bool:
                return _wait_for(holds, clients, lambda: tick(observed), seconds)

            if not wait_for(lambda: observed.answers >= audible_answers(story.creations), _FIRST_ANSWER_SECONDS):
                raise NoAnswerError(f"the worker and the relay gave no answer within {_FIRST_ANSWER_SECONDS} s")
            wait_for(lambda: observed.published == len(story.all))
            wait_for(lambda: observed.answers >= audible_answers(story.all), _LAST_ANSWER_SECONDS)
            evidence = _settled_evidence(settings, observed)
            tick(observed)
        finally:
            ended.set()
    for client in clients:
        client.result()
    return observed, evidence


def _paced(story: Story, observed: Observed, ended: Event) -> Iterator[Outgoing]:
    """The SLOs; once these are made, each minute's records when they are due. All go through one producer: a new one is slow at first."""
    yield from _sent(story.creations, observed, ended)
    while observed.answers < audible_answers(story.creations):
        if ended.wait(_POLL_SECONDS):
            return
    began = time.monotonic()
    for number, minute in enumerate(story.minutes):
        if ended.wait(max(0.0, began + number / LOG_MINUTES_A_SECOND - time.monotonic())):
            return
        yield from _sent(minute, observed, ended)


def _sent(asked_together: Iterable[Asked], observed: Observed, ended: Event) -> Iterator[Outgoing]:
    """What waits for an answer that does not come is sent all the same, and what becomes of it is for the audit."""
    for asked in asked_together:
        deadline = time.monotonic() + _LAST_ANSWER_SECONDS
        while not observed.first_fact_at.keys() >= set(asked.after) and time.monotonic() < deadline:
            if ended.wait(_POLL_SECONDS):
                return
        observed.sent_at.setdefault(asked.intent_id, time.perf_counter())
        yield asked.record
        observed.published += 1


def _read(settings: Settings, observed: Observed, ended: Event) -> None:
    codec = load_codec()
    for message in read_committed(settings, outgoing_topics(), from_beginning=True, stopped=ended.is_set):
        came_at = time.perf_counter()
        if message.topic() == REJECTED_TOPIC:
            observed.rejections.append(read_rejection(message, codec))
        else:
            fact = read_fact(message, codec)
            observed.first_fact_at.setdefault(fact.causation_id, came_at)
            observed.facts.append(fact)
        observed.records.append(to_record(message))


def _wait_for(holds: Callable[[], bool], clients: Iterable[Future[Any]], tick: Callable[[], None], seconds: float) -> bool:
    """Whether it holds in time. Raises what ended a client."""
    deadline = time.monotonic() + seconds
    while not holds():
        for client in clients:
            if client.done():
                client.result()
        if time.monotonic() > deadline:
            return False
        tick()
        time.sleep(_POLL_SECONDS)
    return True


def _settled_evidence(settings: Settings, observed: Observed) -> Evidence:
    """What the audit needs, once all that is in the outbox was read twice: all along, and now from the beginning. Else as it is by then."""
    partitions = partition_counts(settings, outgoing_topics())
    deadline = time.monotonic() + _LAST_ANSWER_SECONDS
    while True:
        evidence = asyncio.run(gather_evidence(settings, partitions))
        if set(evidence.outbox_ids) <= _ids(evidence.published) & _ids(observed.records) or time.monotonic() > deadline:
            return evidence


def _ids(records: Iterable[Record]) -> set[UUID]:
    return {UUID(header_values(record)["ce_id"]) for record in list(records)}
