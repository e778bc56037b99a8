"""The worker as a process: waits for Kafka and PostgreSQL, runs the Faust app, and stops it on a signal."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import uvloop
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential

from worker.app import build_worker
from worker.domain.aggregate import AGGREGATES
from worker.topic_admin import TopicsUnavailableError, partition_counts
from worker.topics import REJECTED_TOPIC, facts_topic, intents_topic

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import faust

    from worker.settings import Settings

_STOP_SECONDS: Final = 10.0
_LOG = logging.getLogger(__name__)


def run_worker(settings: Settings) -> None:
    """Return after SIGTERM or SIGINT; raise whatever crashed the app."""
    _LOG.info("starting, with Kafka at %s", settings.kafka_bootstrap_servers)
    emitted_to = [*(facts_topic(name) for name in AGGREGATES), REJECTED_TOPIC]
    read_from = [intents_topic(name) for name in AGGREGATES]
    partitions = _when_kafka_is_there(settings, [*emitted_to, *read_from])
    with TemporaryDirectory(prefix="sre-domain-") as scratch:
        uvloop.run(serve(partial(build_worker, settings, partitions, Path(scratch))))


def _collect_rarely() -> None:
    """A batch makes tens of thousands of objects and no cycle: to look for one as often as Python does cost a seventh of the time."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _when_kafka_is_there(settings: Settings, topics: Sequence[str]) -> dict[str, int]:
    retrying = Retrying(retry=retry_if_exception_type(TopicsUnavailableError), wait=wait_exponential(0.2, max=5), before_sleep=_say_once)
    return retrying(partition_counts, settings, topics)


def _say_once(state: RetryCallState) -> None:
    if state.attempt_number == 1 and state.outcome is not None:
        _LOG.warning("waiting for Kafka: %s", state.outcome.exception())


async def serve(build: Callable[[], faust.App]) -> None:
    """Build a Faust app in the running loop and run it until a signal or its own end."""
    _collect_rarely()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    app = build()
    app.finalize()
    await app.start()
    _LOG.info("taking intents")
    waiting = {asyncio.create_task(stopping.wait()), asyncio.create_task(app.wait_until_stopped())}
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    with suppress(TimeoutError):  # Kafka may be away: what was not acknowledged comes again
        await asyncio.wait_for(app.stop(), _STOP_SECONDS)
    if app.crash_reason is not None:
        raise app.crash_reason
    _LOG.info("stopped")
