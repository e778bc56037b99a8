"""What a reader's queries took from the tables, by PostgreSQL's own count: the plan inside a function can't be explained from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from collections.abc import Callable

COUNTS = """
SELECT indexrelname AS name, idx_tup_read AS rows FROM pg_stat_user_indexes WHERE relname = %(table)s AND idx_scan > 0
UNION ALL
SELECT 'every row', seq_tup_read FROM pg_stat_user_tables WHERE relname = %(table)s AND seq_scan > 0
"""


def rows_read(database: str, reader: psycopg.Connection[Any], table: str, query: Callable[[], object]) -> dict[str, int]:
    """Rows of the table that the query took, by the index that it took them from, before anything filtered them."""
    with psycopg.connect(database, autocommit=True) as admin:
        before = _counts(admin, reader, table)
        query()
        after = _counts(admin, reader, table)
    return {name: rows - before.get(name, 0) for name, rows in after.items() if rows != before.get(name, 0)}


def _counts(admin: psycopg.Connection[Any], reader: psycopg.Connection[Any], table: str) -> dict[str, int]:
    reader.execute("SELECT pg_stat_force_next_flush()")
    return dict(admin.execute(COUNTS, {"table": table}).fetchall())
