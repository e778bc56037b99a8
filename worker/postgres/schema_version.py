"""Whether the database's schema is one that this version works with: all of its own `pre` migrations, and nobody's later `post`.

A `pre` of a later version only adds, so that the version before goes on beside it and can be gone back to; a `post` took something away.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from psycopg import errors
from psycopg.rows import tuple_row

from worker.errors import WorkerError
from worker.postgres.migrate import MIGRATIONS, read_migrations
from worker.postgres.named_sql import statements

if TYPE_CHECKING:
    from collections.abc import Iterable

    from psycopg import AsyncConnection, Connection

NOT_MIGRATED: Final = "the database was not migrated, or by a version before this one: run sre-domain migrate"
_ONLY_ADDS: Final = re.compile(r"\d{4}_pre_\w+")


class SchemaError(WorkerError):
    """The database is older than this version needs, or newer than it can work with; nothing was read or written."""


def check_schema(connection: Connection[Any]) -> None:
    """Raises SchemaError, and psycopg.Error of any other kind."""
    try:
        with connection.cursor(row_factory=tuple_row) as cursor:
            rows = cursor.execute(statements("role")["applied_migrations"]).fetchall()
    except (errors.UndefinedFunction, errors.UndefinedTable) as error:
        raise SchemaError(NOT_MIGRATED) from error
    refuse_misfit(name for _, name, _ in rows)


async def check_schema_async(connection: AsyncConnection[Any]) -> None:
    """As check_schema()."""
    try:
        rows = await (await connection.execute(statements("role")["applied_migrations"])).fetchall()
    except (errors.UndefinedFunction, errors.UndefinedTable) as error:
        raise SchemaError(NOT_MIGRATED) from error
    refuse_misfit(name for _, name, _ in rows)


def refuse_misfit(applied: Iterable[str]) -> None:
    """By the names of what was applied. Raises SchemaError."""
    applied = set(applied)
    if newer := sorted(name for name in applied - own_migrations() if not _ONLY_ADDS.fullmatch(name)):
        raise SchemaError(
            f"the database is newer than this sre-domain, which can't work with it since migration {newer[0]}: "
            "run the version that applied it, or a later one"
        )
    if missing := sorted(name for name in own_migrations() - applied if _ONLY_ADDS.fullmatch(name)):
        raise SchemaError(f"the database is older than this sre-domain and lacks migration {missing[0]}: run sre-domain migrate")


@cache
def own_migrations() -> frozenset[str]:
    """The names of those that this version brings."""
    return frozenset(migration.name for migration in read_migrations(MIGRATIONS))
