"""The worker that writes the outbox after the commit, in a transaction of its own, and dies between the two."""

import os
from typing import Any

from worker import app
from worker.cli import main
from worker.postgres import outbox
from worker.recovery import process_reliably


async def insert_later(*_: Any) -> None:
    held.append(True)


async def process(*arguments: Any, **named: Any) -> None:
    await process_reliably(*arguments, **named)
    if held:
        os._exit(9)


held: list[bool] = []
outbox.insert = insert_later
app.process_reliably = process  # type: ignore[attr-defined]
main()
