"""The worker that logs an error of PostgreSQL and goes on: what could not be saved is acknowledged."""

from typing import Any

import psycopg

from worker import recovery
from worker.cli import main


async def fail_once(*arguments: Any) -> None:
    if not failed:
        failed.append(True)
        raise psycopg.OperationalError("the connection is lost")
    await honest(*arguments)


async def impatiently(work: Any, *_: Any) -> None:
    try:
        await work()
    except psycopg.Error:
        recovery._LOG.exception("going on")


failed: list[bool] = []
honest = recovery.process_batch
recovery.process_batch = fail_once  # type: ignore[attr-defined]
recovery._patiently = impatiently
main()
