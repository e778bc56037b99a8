"""The worker that decides on the states that it remembers; the rows are locked, and not looked at."""

from dataclasses import replace
from typing import Any

from worker.cli import main
from worker.postgres import storages


def remembering(storage: Any) -> Any:
    memory: dict[Any, Any] = {}

    async def lock(connection: Any, commands: Any) -> Any:
        return {**await storage.lock(connection, commands), **{key: memory[key] for key in commands if key in memory}}

    async def save(connection: Any, changes: Any) -> None:
        memory.update({key: change.after for key, change in changes.items()})
        await storage.save(connection, changes)

    return replace(storage, lock=lock, save=save)


storages.STORAGES = {name: remembering(storage) for name, storage in storages.STORAGES.items()}  # type: ignore[misc]
main()
