"""What the inbox forgets opens no door: records at the edge of the retention, before and after their partition went."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.support.pipelines import intake, query
from tests.support.records import Topic, create
from tests.support.roles import as_writer
from tests.support.system import running_system, wait_until
from worker.domain.aggregate import SLO
from worker.postgres.connection import UnitOpener
from worker.postgres.maintenance import Report, Retention, maintain
from worker.postgres.storages import STORAGES
from worker.recovery import process_reliably

if TYPE_CHECKING:
    from pathlib import Path

    from worker.envelope import Record

NOW = datetime.now(UTC)
RETENTION = timedelta(days=30)
REMEMBERED = timedelta(days=38)  # a record comes again for 7 days after it was decided, and clocks differ by less than one


def process(database: str, record: Record, now: datetime) -> None:
    async def one() -> None:
        opener = UnitOpener(as_writer(database), STORAGES)
        try:
            await process_reliably([record], replace(intake(database, SLO, opener), now=lambda: now))
        finally:
            await opener.close()

    asyncio.run(one())


def forget(database: str) -> Report:
    return asyncio.run(maintain(database, Retention(inbox_days=RETENTION.days, outbox_days=7, slot="none")))


def outcomes(database: str) -> list[tuple[str, str | None]]:
    return query(database, 'SELECT outcome, code FROM inbox ORDER BY "offset"')


def week_of(time: datetime) -> datetime:
    return (time - timedelta(days=time.weekday())).replace(hour=0, minute=0, second=0, microsecond=0)


def make_week(database: str, first: datetime) -> str:
    statement = "SELECT create_partition('inbox', 'ce_time', %s::date, %s::date + 7, '::timestamp AT TIME ZONE ''utc''')"
    query(database, statement, first, first)
    return f"inbox_{first:%Y%m%d}"


def test_the_oldest_intent_that_is_accepted_is_remembered(database: str) -> None:
    topic = Topic(now=NOW)
    oldest = topic.append(create(), intent_id="c", time=NOW - RETENTION)
    process(database, oldest, NOW)
    assert forget(database).dropped == []
    process(database, oldest, NOW)
    process(database, topic.append(create(), intent_id="c", time=NOW - RETENTION, partition=1), NOW)
    assert outcomes(database) == [("facts", None)]
    process(database, topic.append(create(), "other", time=NOW - RETENTION - timedelta(microseconds=1)), NOW)
    assert outcomes(database) == [("facts", None), ("rejected", "INTENT_EXPIRED")]


def test_a_record_that_comes_again_while_its_topic_keeps_it_has_its_outcome(database: str) -> None:
    """Decided at the last moment, a week ago: it is expired by now, and yet its record must not get a second outcome."""
    last = week_of(NOW - REMEMBERED) + timedelta(days=7) - timedelta(microseconds=1)
    part = make_week(database, week_of(last))
    record = Topic(now=last + RETENTION).append(create(), intent_id="c", time=last)
    process(database, record, last + RETENTION)
    assert part not in forget(database).dropped
    process(database, record, NOW)
    assert outcomes(database) == [("facts", None)]


def test_what_was_forgotten_is_refused_by_every_clock_that_is_not_a_week_behind(database: str) -> None:
    last = week_of(NOW - REMEMBERED) - timedelta(microseconds=1)
    part = make_week(database, week_of(last))
    topic = Topic(now=last)
    record = topic.append(create(), intent_id="c", time=last)
    process(database, record, last)
    assert outcomes(database) == [("facts", None)]
    assert forget(database).dropped == [part]
    assert outcomes(database) == []
    process(database, record, NOW)
    process(database, topic.append(create(), intent_id="c", time=last), NOW - timedelta(days=8))
    assert outcomes(database) == [("rejected", "INTENT_EXPIRED")] * 2
    assert query(database, "SELECT version FROM slo") == [(1,)]


@pytest.mark.usefixtures("topics")
def test_a_worker_maintains_beside_its_work(kafka: str, database: str, tmp_path: Path) -> None:
    today = f"outbox_{datetime.now(UTC):%Y%m%d}"
    with psycopg.connect(database) as connection:
        connection.execute(f"DROP TABLE {today}".encode())
    with running_system(kafka, database, tmp_path) as system:
        worker = system.start("worker")
        wait_until(lambda: query(database, "SELECT to_regclass(%s) IS NOT NULL", today) == [(True,)], 30, system.logs)
        wait_until(lambda: "taking intents" in system.log("worker").read_text(), 30, system.logs)
        worker.terminate()
        assert worker.wait(15) == 0
        assert "maintenance" not in system.log("worker").read_text()
