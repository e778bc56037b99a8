"""Questions that a scrape of the metrics asks: answered within seconds, on a connection of their own, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from worker.postgres.named_sql import statements

if TYPE_CHECKING:
    from collections.abc import Mapping

_CONNECTION: Final[dict[str, Any]] = {
    "connect_timeout": 2,  # the shortest that libpq has
    "options": "-c statement_timeout=2s",
    "application_name": "sre-domain metrics",
}


def rows(dsn: str, statement: bytes, named: Mapping[str, object] | None = None, **options: str) -> list[tuple[Any, ...]]:
    """`options` are libpq's, where the DSN has no others. Raises psycopg.Error."""
    with psycopg.connect(make_conninfo(**_CONNECTION | options | conninfo_to_dict(dsn)), autocommit=True) as connection:
        return connection.execute(statement, named).fetchall()


def partitions_ahead(dsn: str) -> dict[str, int]:
    """By table, inbox and outbox, how many partitions begin later than now. Raises psycopg.Error."""
    return dict(rows(dsn, statements("maintenance")["partitions_ahead"]))
