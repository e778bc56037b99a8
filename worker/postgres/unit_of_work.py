"""One batch, one transaction: inbox, state and outbox together, rolled back unless told to commit."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worker.postgres import inbox, outbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence
    from uuid import UUID

    from psycopg import AsyncConnection

    from worker.postgres.inbox import Decided, InboxRow
    from worker.postgres.outbox import OutboxRow
    from worker.postgres.storage import Change, Key, Storage


@dataclass(frozen=True, slots=True)
class UnitOfWork:
    """A transaction over one aggregate's state. Locks are taken in one order: positions, intents, states."""

    connection: AsyncConnection[Any]
    storage: Storage

    async def lock_positions(self, topic: str, partitions: Collection[int]) -> dict[int, int]:
        return await inbox.lock_positions(self.connection, topic, partitions)

    async def earlier_outcomes(self, locked: Collection[UUID], sought: Mapping[Key, UUID]) -> dict[Key, Decided]:
        """Lock the intents' keys against other workers, then read which of the sought ones have an outcome."""
        if locked:
            await inbox.lock_intents(self.connection, locked)
        return await inbox.outcomes_of(self.connection, sought) if sought else {}

    async def lock_states(self, commands: Mapping[Key, Sequence[Any]]) -> dict[Key, Any]:
        return await self.storage.lock(self.connection, commands) if commands else {}

    async def save(
        self,
        topic: str,
        inbox_rows: Sequence[InboxRow],
        outbox_rows: Sequence[OutboxRow],
        changes: Mapping[Key, Change],
        next_offsets: Mapping[int, int],
    ) -> None:
        """Write everything and commit, in one round trip."""
        async with self.connection.pipeline():
            if changes:
                await self.storage.save(self.connection, changes)
            if outbox_rows:
                await outbox.insert(self.connection, outbox_rows)
            if inbox_rows:
                await inbox.insert(self.connection, topic, inbox_rows)
            await inbox.advance_positions(self.connection, topic, next_offsets)
            await self.connection.commit()


@asynccontextmanager
async def open_unit(connection: AsyncConnection[Any], storage: Storage) -> AsyncIterator[UnitOfWork]:
    """A unit on this connection. Leaving it without save() leaves nothing written."""
    try:
        yield UnitOfWork(connection, storage)
    finally:
        if not connection.closed:
            await connection.rollback()  # does nothing after a commit
