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
    from worker.postgres.storage import Change, Key, Storage, Subject


@dataclass(frozen=True, slots=True)
class Found:
    """What a batch is decided on, all of it locked: next offset by partition, outcomes by intent, states by subject."""

    positions: dict[int, int]
    outcomes: dict[Key, Decided]
    states: dict[Subject, Any]


@dataclass(frozen=True, slots=True)
class UnitOfWork:
    """A transaction, pipelined: statements go out without waiting for the answer to the one before.

    Locks are taken in one order: positions, intents, then states by aggregate type, tenant and id.
    """

    connection: AsyncConnection[Any]
    storages: Mapping[str, Storage]

    async def find(
        self,
        tenants: Collection[str],
        topic: str,
        partitions: Collection[int],
        intents: Mapping[Key, UUID],
        commands: Mapping[str, Mapping[Key, Sequence[Any]]],
    ) -> Found:
        """Lock and read; `commands` by the aggregate that they are asked of or name. Nothing is seen or saved but rows of `tenants`."""
        await inbox.see_tenants(self.connection, tenants)
        positions = await inbox.lock_positions(self.connection, topic, partitions)
        if intents:
            await inbox.lock_intents(self.connection, intents.values())
            outcomes = await inbox.find_outcomes(self.connection, intents)
        states = {
            (name, *key): state
            for name in sorted(commands)
            for key, state in (await self.storages[name].lock(self.connection, commands[name])).items()
        }
        return Found(
            dict(await positions.fetchall()),
            inbox.by_intent(await outcomes.fetchall()) if intents else {},
            states,
        )

    async def outcomes_of(self, intents: Mapping[Key, UUID]) -> dict[Key, Decided]:
        """Those of more intents, or positions, that have an outcome."""
        return inbox.by_intent(await (await inbox.find_outcomes(self.connection, intents)).fetchall())

    async def save(
        self,
        topic: str,
        inbox_rows: Sequence[InboxRow],
        outbox_rows: Sequence[OutboxRow],
        changes: Mapping[str, Mapping[Key, Change]],
        next_offsets: Mapping[int, int],
    ) -> None:
        """Write everything and commit; both are done, or have failed, when the unit is left."""
        for name in sorted(changes):
            # Rows of absent aggregates are not locked: in one order, two workers that create the same ones don't wait for each other.
            await self.storages[name].save(self.connection, dict(sorted(changes[name].items())))
        if outbox_rows:
            await outbox.insert(self.connection, outbox_rows)
        if inbox_rows:
            await inbox.insert(self.connection, topic, inbox_rows)
        await inbox.advance_positions(self.connection, topic, next_offsets)
        await self.connection.commit()


@asynccontextmanager
async def open_unit(connection: AsyncConnection[Any], storages: Mapping[str, Storage]) -> AsyncIterator[UnitOfWork]:
    """A unit on this connection. Leaving it without save() leaves nothing written."""
    try:
        async with connection.pipeline():
            yield UnitOfWork(connection, storages)
    finally:
        if not connection.closed:
            await connection.rollback()  # does nothing after a commit
