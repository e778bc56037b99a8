"""The worker that stands still in one place, which STANDS_STILL names, once it has taken its first record; watched for five seconds."""

import asyncio
import os
import time
from typing import Any

from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator

from worker import app, service
from worker.cli import main
from worker.watchdog import Watchdog

taken = False


async def taking(*arguments: Any, **keywords: Any) -> None:
    global taken  # noqa: PLW0603 - one record, one process
    taken = True
    if where == "event loop":
        time.sleep(3600)  # noqa: ASYNC251 - that is the break
    elif where == "batch":
        await asyncio.Event().wait()
    await honest_process(*arguments, **keywords)


async def fetched_records(self: Any, *arguments: Any, **keywords: Any) -> Any:
    if taken and where == "fetcher":
        await asyncio.sleep(3600)
    return await honest_fetch(self, *arguments, **keywords)


async def heartbeat(self: Any) -> Any:
    if taken and where == "consumer thread":
        time.sleep(3600)  # noqa: ASYNC251 - that is the break
    return await honest_heartbeat(self)


def impatient(**given: Any) -> Watchdog:
    return Watchdog(**given | {"seconds": 5.0})


where = os.environ["STANDS_STILL"]
honest_process, honest_fetch, honest_heartbeat = app.process_reliably, Fetcher.fetched_records, GroupCoordinator._do_heartbeat
service.Watchdog = impatient  # type: ignore[assignment,misc]
app.process_reliably = taking  # type: ignore[assignment]
Fetcher.fetched_records = fetched_records
GroupCoordinator._do_heartbeat = heartbeat
main()
