"""What was decided: one row a record, found again by the intent's id or, where no id was used up, by the record's position."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from worker.postgres.named_sql import statements

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from psycopg import AsyncConnection, AsyncCursor

    from worker.postgres.storage import Key


class InboxRow(NamedTuple):
    """Columns of table inbox but the topic; `fact_ids` is an array literal, since an array of arrays must be a rectangle."""

    tenant_id: str
    intent_key: UUID
    intent_id: str
    ce_time: datetime
    content_hash: bytes
    partition: int
    offset: int
    outcome: str
    code: str | None
    fact_ids: str


class Decided(NamedTuple):
    """An earlier outcome: of which content, for the record at which place."""

    content_hash: bytes
    topic: str
    partition: int
    offset: int


@lru_cache(maxsize=4096)  # asked for twice in a batch
def intent_key(tenant_id: str, intent_id: str) -> UUID:
    return UUID(bytes=sha256(f"{tenant_id}\n{intent_id}".encode()).digest()[:16])


async def see_tenants(connection: AsyncConnection[Any], tenants: Collection[str]) -> None:
    """Let the transaction see and write rows of these tenants, and none of another; '' is that of records without one."""
    await connection.execute(statements("inbox")["see_tenants"], {"tenants": sorted(tenants)})


async def lock_positions(connection: AsyncConnection[Any], topic: str, partitions: Collection[int]) -> AsyncCursor[Any]:
    """Next offset to be decided, by partition, locked until the transaction ends; a partition never seen is absent."""
    return await connection.execute(statements("inbox")["lock_positions"], {"topic": topic, "partitions": sorted(partitions)}, binary=True)


async def lock_intents(connection: AsyncConnection[Any], keys: Collection[UUID]) -> None:
    """Hold these ids until the transaction ends, against the same id in another partition."""
    locks = [int.from_bytes(key.bytes[:8], "big", signed=True) for key in keys]
    await connection.execute(statements("inbox")["lock_intents"], {"locks": locks})


async def find_outcomes(connection: AsyncConnection[Any], keys: Mapping[Key, UUID]) -> AsyncCursor[Any]:
    """The rows of by_intent() for those of (tenant, intent id) that have an outcome."""
    named = {"tenant_ids": [tenant for tenant, _ in keys], "intent_keys": list(keys.values())}
    return await connection.execute(statements("inbox")["outcomes_of"], named, binary=True)


def by_intent(rows: Sequence[Sequence[Any]]) -> dict[Key, Decided]:
    return {(row[0], row[1]): Decided(*row[2:]) for row in rows}


async def insert(connection: AsyncConnection[Any], topic: str, rows: Sequence[InboxRow]) -> None:
    columns = dict(zip(InboxRow._fields, map(list, zip(*rows, strict=True)), strict=True))
    await connection.execute(statements("inbox")["insert_inbox"], {"topic": topic, **columns})


async def advance_positions(connection: AsyncConnection[Any], topic: str, next_offsets: Mapping[int, int]) -> None:
    named = {"topic": topic, "partitions": list(next_offsets), "next_offsets": list(next_offsets.values())}
    await connection.execute(statements("inbox")["advance_positions"], named)
