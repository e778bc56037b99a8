"""The worker that acknowledges a batch before it is committed."""

import asyncio
from typing import Any

from worker import agents, app
from worker.cli import main


async def take_intents(stream: Any, process: Any, max_intents: int, **_: Any) -> None:
    async for events in stream.noack_take(max_intents, within=0.01):
        for event in events:
            event.ack()
        await asyncio.sleep(1)  # as long as a slow commit: Faust commits the offsets meanwhile
        await process([agents.to_record(event) for event in events])


def with_quick_commits(*arguments: Any) -> Any:
    built = honest(*arguments)
    built.conf.broker_commit_interval = 0.1
    return built


honest = app.build_faust_app
app.build_faust_app = with_quick_commits
app.take_intents = take_intents  # type: ignore[attr-defined]
main()
