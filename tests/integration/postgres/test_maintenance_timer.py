"""Maintenance beside a worker: at once, again, through outages, and told once."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
from pydantic import SecretStr
from typer.testing import CliRunner

from tests.integration.relay.harness import wait_until
from tests.support.roles import as_writer
from worker.cli.main import app
from worker.postgres import maintenance_timer
from worker.postgres.maintenance import MaintenanceError, Report
from worker.postgres.maintenance_timer import keep_maintained
from worker.settings import RetentionSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

TODAY = f"outbox_{datetime.now(UTC):%Y%m%d}"


def settings_for(database: str) -> RetentionSettings:
    return RetentionSettings(database_url=SecretStr(as_writer(database)), maintenance_seconds=0.05)


async def keep_until(settings: RetentionSettings, holds: Callable[[], bool]) -> None:
    task = asyncio.create_task(keep_maintained(settings))
    try:
        await asyncio.to_thread(wait_until, holds, "maintained")
        assert not task.done()
    finally:
        task.cancel()


def exists(database: str, table: str) -> bool:
    with psycopg.connect(database) as connection:
        return connection.execute("SELECT to_regclass(%s) IS NOT NULL", [table]).fetchone() == (True,)


def drop(database: str, table: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(f"DROP TABLE {table}".encode())


def test_it_maintains_at_the_start_and_again(database: str) -> None:
    drops = 0

    def made_twice() -> bool:
        nonlocal drops
        if exists(database, TODAY):
            drop(database, TODAY)
            drops += 1
        return drops > 2  # of which the first was the migration's

    asyncio.run(keep_until(settings_for(database), made_twice))


def test_what_fails_is_told_once_and_ends_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    outcomes: list[Any] = [
        MaintenanceError("away"),
        MaintenanceError("away"),
        ValueError("a fault of ours"),
        ValueError("a fault of ours"),
        Report(left=["outbox_1 was kept"]),
        Report(at_work=True),
        Report(left=["outbox_1 was kept"]),
        Report(),
        Report(),
    ]

    async def scripted(*_: object) -> Report:
        outcome = outcomes.pop(0) if outcomes else Report()
        if isinstance(outcome, Exception):
            raise outcome
        assert isinstance(outcome, Report)
        return outcome

    monkeypatch.setattr(maintenance_timer, "maintain", scripted)
    with caplog.at_level(logging.INFO):
        asyncio.run(keep_until(settings_for("postgresql://unused"), lambda: not outcomes))
    assert [record.getMessage() for record in caplog.records if record.name == maintenance_timer.__name__] == [
        "maintenance: away",
        "maintenance failed for a fault of ours",
        "maintenance: outbox_1 was kept",
        "maintenance: nothing is left to do",
    ]


def test_the_command_says_what_it_did_and_what_it_left(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SRE_DATABASE_URL", "postgresql://127.0.0.1:1/nothing")
    monkeypatch.setenv("SRE_MIGRATE_DATABASE_URL", database)
    monkeypatch.setenv("SRE_RELAY_SLOT", "missing")
    drop(database, TODAY)
    first, second = (CliRunner().invoke(app, ["maintain"]) for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert f"made {TODAY}" in first.stdout.splitlines()
    assert second.stdout.splitlines() == ["the partitions are as they must be"]
    with psycopg.connect(database) as connection:
        connection.execute("SET ROLE sre_owner")
        connection.execute("CREATE TABLE outbox_old PARTITION OF outbox FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')")
    third = CliRunner().invoke(app, ["maintain"])
    assert (third.exit_code, third.stderr) == (1, "outbox_old was kept: this database has no slot missing\n")
