"""The worker as a process: waits for Kafka and PostgreSQL, runs the Faust app, and stops it on a signal."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer
from typing import TYPE_CHECKING, Final

import faust
import psycopg
import uvloop
from aiokafka.errors import KafkaConnectionError
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential

from worker.agents import EXIT_SOFTWARE
from worker.app import build_worker
from worker.condition import Condition
from worker.consumer_state import consumer_loop, give_up_taken, taken_messages, what_is_due
from worker.domain.aggregate import AGGREGATES
from worker.emission import Emitter
from worker.errors import WorkerError
from worker.health import serve_health
from worker.memory import collect_rarely
from worker.postgres.connection import check_writer
from worker.postgres.maintenance_timer import keep_maintained
from worker.registry import RegistryAwayError, worker_codec
from worker.signs import Signs
from worker.subjects import EMITTED
from worker.telemetry.services import told
from worker.topic_admin import TopicsUnavailableError, partition_counts
from worker.topics import REJECTED_TOPIC, facts_topic, intents_topic
from worker.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.codec import Codec
    from worker.settings import Settings

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_STOP_SECONDS: Final = 10.0  # Kubernetes kills after 30
_DRAIN_SECONDS: Final = 6.0


class StartInterruptedError(WorkerError):
    """Kafka was there, and went away before the worker had a place in its group. The next start waits for it."""


Watching = Callable[[faust.App], AbstractContextManager[object]]

_LOG = logging.getLogger(__name__)


def run_worker(settings: Settings) -> None:
    """Return after SIGTERM or SIGINT; raise whatever crashed the app, and WriterRoleError before anything is taken."""
    _LOG.info("starting, with Kafka at %s", settings.kafka_bootstrap_servers)
    with suppress(psycopg.OperationalError):  # while PostgreSQL is away nothing is decided: each connection asks again
        check_writer(settings.writer_dsn)
    emitted_to = [*(facts_topic(name) for name in AGGREGATES), REJECTED_TOPIC]
    read_from = [intents_topic(name) for name in AGGREGATES]
    signs = Signs()
    condition = Condition(settings.writer_dsn, signs)
    for number in _SIGNALS:
        signal.signal(number, _leave)
    with (
        told(settings, condition, signs) as (scrape, tell),
        serve_health(settings.health_address, condition.live, condition.ready, scrape),
    ):
        partitions = _when_kafka_is_there(settings, [*emitted_to, *read_from])
        codec, ids = worker_codec(settings)
        if settings.encoding == "confluent":
            condition.state = "waiting for the schema registry"
            _when_the_registry_is_there(codec)
        with TemporaryDirectory(prefix="sre-domain-") as scratch:
            build = partial(build_worker, settings, Emitter(codec, partitions), ids, Path(scratch), signs, tell)
            uvloop.run(_serve_maintained(settings, build, partial(_watching, settings, signs, condition)))


def _leave(_number: int, _frame: object) -> None:
    """Before there is anything to be finished."""
    _LOG.info("stopped")
    logging.shutdown()
    os._exit(0)


def _when_kafka_is_there(settings: Settings, topics: Sequence[str]) -> dict[str, int]:
    """Asked in a thread, since a client that waits in C lets no signal be heard."""
    retrying = Retrying(retry=retry_if_exception_type(TopicsUnavailableError), wait=wait_exponential(0.2, max=5), before_sleep=_say_once)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(retrying, partition_counts, settings, topics).result()


def _when_the_registry_is_there(codec: Codec) -> None:
    """Have the headers of all that is emitted, so that the registry may go. Raises SchemaNotRegisteredError."""

    def look_up() -> None:
        for record in EMITTED:
            codec.headers[record]

    retrying = Retrying(retry=retry_if_exception_type(RegistryAwayError), wait=wait_exponential(0.2, max=5), before_sleep=_say_once)
    with ThreadPoolExecutor(1) as thread:
        thread.submit(retrying, look_up).result()


def _say_once(state: RetryCallState) -> None:
    if state.attempt_number == 1 and state.outcome is not None:
        error = state.outcome.exception()
        _LOG.warning("waiting for %s: %s", "the schema registry" if isinstance(error, RegistryAwayError) else "Kafka", error)


@contextmanager
def _watching(settings: Settings, signs: Signs, condition: Condition, app: faust.App) -> Iterator[None]:
    """Have the watchdog and the probes look at this app while it runs."""
    topics = [intents_topic(name) for name in AGGREGATES]
    watchdog = Watchdog(
        signs=signs,
        loop=asyncio.get_running_loop(),
        consumer_loop=partial(consumer_loop, app),
        ask=partial(what_is_due, app),
        kafka_answers=partial(_answers, settings, topics),
        seconds=settings.watchdog_seconds,
    )
    watchdog.start()
    condition.watch(app, watchdog)
    try:
        yield
    finally:
        condition.stop()
        watchdog.stop()


def _answers(settings: Settings, topics: Sequence[str]) -> bool:
    try:
        partition_counts(settings, topics)
    except TopicsUnavailableError:
        return False
    return True


async def _serve_maintained(settings: Settings, build: Callable[[], faust.App], watching: Watching) -> None:
    maintaining = asyncio.create_task(keep_maintained(settings))
    try:
        await serve(build, watching)
    finally:
        maintaining.cancel()


async def serve(build: Callable[[], faust.App], watching: Watching = nullcontext) -> None:
    """Build a Faust app in the running loop and run it, inside `watching`, until a signal or its own end.

    A second signal ends the process at once.
    """
    collect_rarely()
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, _hear, asked)
    app = build()
    app.finalize()
    with watching(app):
        await _run_until(app, asked)
    await _stop(app, status=0 if asked.is_set() else EXIT_SOFTWARE)
    if app.crash_reason is not None:
        raise app.crash_reason
    _LOG.info("stopped")


def _hear(asked: asyncio.Event) -> None:
    asked.set()
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)


async def _run_until(app: faust.App, asked: asyncio.Event) -> None:
    asking = asyncio.create_task(asked.wait())
    starting = asyncio.create_task(app.start())
    await asyncio.wait({asking, starting}, return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        try:
            starting.result()
        except KafkaConnectionError as error:
            raise StartInterruptedError(f"Kafka went away while the worker began: {error}; start it again") from error
        _LOG.info("taking intents")
        ending = asyncio.create_task(app.wait_until_stopped())
        await asyncio.wait({asking, ending}, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
    asking.cancel()


async def _stop(app: faust.App, status: int) -> None:
    """Have decided what is being decided, commit the offsets and leave the group, in time whatever is away.

    What was not acknowledged comes again, to whoever has the partition then; Kafka finds a worker gone that could not say so.
    """
    last_resort = Timer(_STOP_SECONDS, _end, [status])
    last_resort.daemon = True
    last_resort.start()
    stopping = asyncio.create_task(app.stop())
    _, undone = await asyncio.wait({stopping}, timeout=_DRAIN_SECONDS)
    if undone:
        _LOG.warning("stopping without the outcomes of %d intents, which come again", sum(1 for _ in taken_messages(app)))
        give_up_taken(app)
    await stopping


def _end(status: int) -> None:
    _LOG.warning("not stopped within %.0f s; the process ends, and Kafka waits for it until its session is over", _STOP_SECONDS)
    logging.shutdown()
    os._exit(status)
