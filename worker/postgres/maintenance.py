"""Partitions of inbox and outbox: made ahead, dropped after their retention, and never with what is not confirmed as published.

What is decided on locks is in the functions of sql/migrations/0007_pre_retention.sql; each call is a transaction, so that a run that is
killed has done whole steps.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from psycopg import AsyncConnection, Error, errors

from worker.errors import WorkerError
from worker.postgres.connection import CONNECT_TIMEOUT_SECONDS
from worker.postgres.named_sql import statements
from worker.postgres.schema_version import NOT_MIGRATED, SchemaError, check_schema_async

if TYPE_CHECKING:
    from collections.abc import Mapping

_DAYS_AHEAD: Final = 7
_ROWS_A_TRANSACTION: Final = 10_000
_TRANSACTIONS: Final = 20  # what is left after so many waits for the next run
_IN_USE: Final = (errors.LockNotAvailable, errors.QueryCanceled, errors.DeadlockDetected)


class MaintenanceError(WorkerError):
    """The database is out of reach, was not migrated, or its role may not maintain; nothing was left half-done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long rows are kept: inbox by ce_time, outbox by when they were written, and that only once `slot` has confirmed them."""

    inbox_days: int
    outbox_days: int
    slot: str

    def days(self) -> Mapping[str, int]:
        return {"outbox": self.outbox_days, "inbox": self.inbox_days}


@dataclass(slots=True, kw_only=True)
class Report:
    """What a run did, and in `left` a line for each thing that it had to leave; `at_work` where another one is at it."""

    at_work: bool = False
    made: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    deleted_rows: int = 0
    left: list[str] = field(default_factory=list)


async def maintain(dsn: str, retention: Retention, now: datetime | None = None) -> Report:
    """Do what is due. Raises MaintenanceError."""
    sql, report = statements("maintenance"), Report()
    try:
        async with aclosing(_Session(await _connect(dsn))) as session:
            await session.connection.execute(sql["give_up"])
            if await session.value("may_maintain", {}) is not True:
                raise MaintenanceError("this role may not maintain the database: run sre-domain maintain as the schema's owner")
            await check_schema_async(session.connection)
            if await session.value("lock", {}) is not True:
                return Report(at_work=True)
            for parent, days in retention.days().items():
                named = {"parent": parent, "retention_days": days, "as_of": now or datetime.now(UTC), "slot": retention.slot}
                await _maintain_table(session, named, report)
            await session.value("unlock", {})
    except SchemaError as error:
        raise MaintenanceError(str(error)) from error
    except (errors.UndefinedFunction, errors.UndefinedTable) as error:
        raise MaintenanceError(NOT_MIGRATED) from error
    except Error as error:
        raise MaintenanceError(f"the database can't be maintained: {_one_line(error)}") from error
    return report


@dataclass(frozen=True, slots=True)
class _Session:
    connection: AsyncConnection[Any]

    async def rows(self, statement: str, named: Mapping[str, object]) -> list[tuple[Any, ...]]:
        return await (await self.connection.execute(statements("maintenance")[statement], named)).fetchall()

    async def value(self, statement: str, named: Mapping[str, object]) -> Any:  # noqa: ANN401
        return (await self.rows(statement, named))[0][0]

    async def aclose(self) -> None:
        await self.connection.close()


async def _connect(dsn: str) -> AsyncConnection[Any]:
    return await AsyncConnection.connect(
        dsn, autocommit=True, connect_timeout=CONNECT_TIMEOUT_SECONDS, application_name="sre-domain maintenance"
    )


async def _maintain_table(session: _Session, named: Mapping[str, Any], report: Report) -> None:
    """Make, drop, delete. A table in heavy use is left at the first lock that is not to be had: those who write wait no second time."""
    parent = named["parent"]
    try:
        for (first,) in await session.rows("missing_partitions", {**named, "days_ahead": _DAYS_AHEAD}):
            part = f"{parent}_{first:%Y%m%d}"
            why = await _try(session, "make_partition", {**named, "first": first})
            _note(report, report.made, part, "was not made", why)
        for (part,) in await session.rows("expired_partitions", named):
            why = await _try(session, "drop_expired_partition", {**named, "part": part})
            _note(report, report.dropped, part, "was kept", why)
            if why is not None and parent == "outbox":
                break  # the next ones are younger: what keeps this one keeps them
        await _delete_rows(session, named, report)
    except _IN_USE as error:
        report.left.append(f"{parent} is in use, the next run tries again: {_one_line(error)}")


async def _delete_rows(session: _Session, named: Mapping[str, Any], report: Report) -> None:
    for _ in range(_TRANSACTIONS):
        deleted, kept = (await session.rows("delete_expired_rows", {**named, "at_most": _ROWS_A_TRANSACTION}))[0]
        report.deleted_rows += deleted
        if kept is not None:
            report.left.append(f"{named['parent']}_default keeps rows past their retention: {kept}")
        if deleted < _ROWS_A_TRANSACTION:
            return
    report.left.append(f"{named['parent']}_default may hold more rows past their retention: the next run goes on")


async def _try(session: _Session, statement: str, named: Mapping[str, object]) -> str | None:
    """Null where it is done, or why not: what a hand has done to one partition does not stop the others."""
    try:
        why: str | None = await session.value(statement, named)
    except _IN_USE:
        raise
    except Error as error:
        if session.connection.closed:
            raise
        return _one_line(error)
    return why


def _note(report: Report, done: list[str], part: str, not_done: str, why: str | None) -> None:
    if why is None:
        done.append(part)
    else:
        report.left.append(f"{part} {not_done}: {why}")


def _one_line(error: Error) -> str:
    return error.diag.message_primary or " ".join(str(error).split())
