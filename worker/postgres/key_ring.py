"""The keys of all tenants as a worker knows them: read whole, now and then, on a connection that no batch uses."""

from __future__ import annotations

import asyncio
import re
import time
from math import inf
from typing import TYPE_CHECKING, Any, Final

from worker.postgres.connection import connect
from worker.postgres.named_sql import statements
from worker.signing_keys import Key

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from psycopg import AsyncConnection

# An age in seconds, counted from before the keys were read.
_OLD: Final = 2.0  # newer ones are read beside the batches
_TOO_OLD: Final = 5.0  # nothing is decided by them: this is how long a revoked key can go on
_ANSWER_SECONDS: Final = 10.0
_KEY_ID: Final = re.compile(r"[0-9a-f]{16}")


class KeyRing:
    """One for all agents of a process.

    Costs a statement every two seconds while there is something to decide, and one for each batch that names keys that are not known.
    """

    def __init__(self, dsn: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._dsn = dsn
        self._clock = clock
        self._keys: dict[str, Key] = {}
        self._rows: dict[str, tuple[Any, ...]] = {}
        self._as_of = -inf
        self._reading: asyncio.Task[None] | None = None
        self._connection: AsyncConnection[Any] | None = None
        self._one_at_a_time = asyncio.Lock()

    async def keys_now(self, asked_for: Collection[str]) -> Mapping[str, Key]:
        """By key id; of those that are asked for, all that there are. Raises psycopg.Error or OSError where they can't be read."""
        while self._age() >= _TOO_OLD:
            await asyncio.shield(self._read_again())
        if self._age() >= _OLD:
            self._read_again()
        keys = self._keys
        unknown = [key_id for key_id in asked_for if key_id not in keys and _KEY_ID.fullmatch(key_id)]
        if unknown:
            keys = {**keys, **{row[0]: _key(row) for row in await self._query("keys_of", {"key_ids": unknown})}}
        return keys

    def _age(self) -> float:
        return self._clock() - self._as_of

    def _read_again(self) -> asyncio.Task[None]:
        """One reading at a time, whoever waits for it."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(_look_at)
        return self._reading

    async def _read(self) -> None:
        as_of = self._clock()
        rows = {row[0]: row for row in await self._query("keys", {})}
        if rows != self._rows:
            self._rows, self._keys = rows, {key_id: _key(row) for key_id, row in rows.items()}
        self._as_of = as_of

    async def _query(self, statement: str, named: Mapping[str, object]) -> list[tuple[Any, ...]]:
        async with self._one_at_a_time:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    if self._connection is None:
                        self._connection = await connect(self._dsn)
                        await self._connection.set_autocommit(True)
                    return await (await self._connection.execute(statements("keys")[statement], named)).fetchall()
            except BaseException:
                await self.close()
                raise

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None


def _key(row: tuple[Any, ...]) -> Key:
    _, public_key, tenant_id, principal, valid_from, valid_until, is_revoked, intents, actor = row
    return Key(public_key, tenant_id, principal, valid_from, valid_until, is_revoked, frozenset(intents), actor)


def _look_at(reading: asyncio.Task[None]) -> None:
    """Whoever had to wait for it hears of its failure; else the next one that has to tries again."""
    if not reading.cancelled():
        reading.exception()
