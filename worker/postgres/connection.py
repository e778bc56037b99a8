"""A process's connection to PostgreSQL: opened when a batch needs it, and again after it broke."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from worker.errors import WorkerError
from worker.postgres.named_sql import statements
from worker.postgres.schema_version import check_schema, check_schema_async
from worker.postgres.unit_of_work import UnitOfWork, open_unit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from worker.postgres.storage import Storage

CONNECT_TIMEOUT_SECONDS: Final = 5
# A host that vanished is noticed within half a minute; the DSN may say otherwise.
CONNECTION_DEFAULTS: Final[dict[str, Any]] = {
    "connect_timeout": CONNECT_TIMEOUT_SECONDS,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "application_name": "sre-domain worker",
}
# A worker that is paused in a transaction loses its locks, for which whoever has its partitions by then waits (PostgreSQL 17 and later;
# idle_in_transaction_session_timeout does not count inside a pipeline).
_TRANSACTION_TIMEOUT: Final = "SELECT set_config(name, '30s', false) FROM pg_settings WHERE name = 'transaction_timeout'"
SESSION: Final = ("SET TIME ZONE 'UTC'", "SET enable_seqscan = off", _TRANSACTION_TIMEOUT)


class WriterRoleError(WorkerError):
    """The worker's login could see or write more than its batch's tenants, or nothing at all."""


class UnitOpener:
    """Opens units of work, one at a time, on a connection of its own.

    Raises psycopg.OperationalError while PostgreSQL is away, WriterRoleError and SchemaError where login or schema are not as they must be.
    """

    def __init__(self, dsn: str, storages: Mapping[str, Storage]) -> None:
        self._dsn = dsn
        self._storages = storages
        self._connection: AsyncConnection[Any] | None = None

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[UnitOfWork]:
        if self._connection is None or self._connection.closed:
            self._connection = await connect_writer(self._dsn)
        try:
            async with open_unit(self._connection, self._storages) as unit:
                yield unit
        except BaseException:
            await self.close()  # an error or a cancellation can leave a pipeline in any state: begin again with a clean one
            raise

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None


async def connect_writer(dsn: str) -> AsyncConnection[Any]:
    """Raises psycopg.OperationalError, WriterRoleError and SchemaError."""
    connection = await connect(dsn)
    try:
        _refuse(await (await connection.execute(statements("role")["too_much"])).fetchone(), connection.info.user)
        await check_schema_async(connection)
        await connection.rollback()
    except BaseException:
        await connection.close()
        raise
    return connection


def check_writer(dsn: str) -> None:
    """Raise WriterRoleError for a login that the worker must not run under, SchemaError for a schema of another version.

    Raises psycopg.OperationalError while PostgreSQL is away.
    """
    with psycopg.connect(make_conninfo(**CONNECTION_DEFAULTS | conninfo_to_dict(dsn))) as connection:
        _refuse(connection.execute(statements("role")["too_much"]).fetchone(), connection.info.user)
        check_schema(connection)


def _refuse(found: tuple[str | None] | None, login: str) -> None:
    if found is not None and found[0] is not None:
        raise WriterRoleError(f"SRE_DATABASE_URL: role {login} {found[0]}; the worker runs as a member of sre_writer and of no other role")


async def connect(dsn: str) -> AsyncConnection[Any]:
    """Session times are UTC, so that a timestamptz reads as one.

    No scans of whole tables: every statement has its index, and a plan that is kept must not be one that was made while a table was empty.
    """
    connection = await AsyncConnection.connect(make_conninfo(**CONNECTION_DEFAULTS | conninfo_to_dict(dsn)))
    await connection.set_autocommit(True)
    for setting in SESSION:
        await connection.execute(setting)
    await connection.set_autocommit(False)
    return connection
