"""The worker that leaves one of a batch's changed states out."""

from dataclasses import replace
from typing import Any

from worker.cli import main
from worker.postgres import storages


def forgetful(storage: Any) -> Any:
    async def save(connection: Any, changes: Any) -> None:
        updated = [key for key, change in changes.items() if change.before is not None]
        await storage.save(connection, {key: change for key, change in changes.items() if key not in updated[:1]})

    return replace(storage, save=save)


storages.STORAGES = {name: forgetful(storage) for name, storage in storages.STORAGES.items()}  # type: ignore[misc]
main()
