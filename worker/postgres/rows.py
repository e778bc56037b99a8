"""What the modules of rows share: locking by key, writing columns as arrays, and the whole storage of an aggregate that is one row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from worker.postgres.named_sql import statements
from worker.postgres.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from psycopg import AsyncConnection

    from worker.postgres.storage import Change, Key


async def lock_rows(connection: AsyncConnection[Any], file: str, keys: Collection[Key]) -> list[tuple[Any, ...]]:
    """The rows of these aggregates, locked in the order of their keys by `lock_rows` of sql/queries/<file>.sql; the key comes first."""
    tenant_ids, ids = zip(*keys, strict=True)
    named = {"tenant_ids": list(tenant_ids), "ids": list(ids)}
    return await (await connection.execute(statements(file)["lock_rows"], named, binary=True)).fetchall()


async def write_rows(connection: AsyncConnection[Any], statement: bytes, rows: Sequence[Mapping[str, object]]) -> None:
    """One statement for all rows, each column an array for unnest; nothing where there are none."""
    if rows:
        await connection.execute(statement, {column: [row[column] for row in rows] for column in rows[0]})


def one_row(file: str, from_row: Callable[[Sequence[Any]], Any], to_row: Callable[[Key, Any], dict[str, object]]) -> Storage:
    """An aggregate that is one row, by `lock_rows`, `insert_rows`, `update_rows` and `all_rows` of sql/queries/<file>.sql."""
    sql = statements(file)

    async def lock(connection: AsyncConnection[Any], commands: Mapping[Key, Sequence[Any]]) -> dict[Key, Any]:
        return _by_key(await lock_rows(connection, file, commands))

    async def save(connection: AsyncConnection[Any], changes: Mapping[Key, Change]) -> None:
        created = [to_row(key, change.after) for key, change in changes.items() if change.before is None]
        updated = [to_row(key, change.after) for key, change in changes.items() if change.before is not None]
        await write_rows(connection, sql["insert_rows"], created)
        await write_rows(connection, sql["update_rows"], updated)

    async def read_all(connection: AsyncConnection[Any]) -> dict[Key, Any]:
        return _by_key(await (await connection.execute(sql["all_rows"], binary=True)).fetchall())

    def _by_key(rows: Sequence[Sequence[Any]]) -> dict[Key, Any]:
        return {(row[0], row[1]): from_row(row) for row in rows}

    return Storage(lock, save, read_all)
