"""Hostile records in one partition of a real worker, a good intent behind each: everyone gets its outcome, and nobody waits."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
from confluent_kafka import Producer

from tests.support.hostile import TOPIC, Hostile, good, hostile_records
from tests.support.system import environment_of, running_system

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.system import System

_FIRST_GOOD = 10


def send(bootstrap_servers: str, records: list[Hostile]) -> None:
    """All into partition 0, in their order."""
    failed: list[str] = []
    producer = Producer(
        {"bootstrap.servers": bootstrap_servers, "message.max.bytes": 2**20 - 512, "enable.idempotence": True, "linger.ms": 0}
    )
    for record in records:
        producer.produce(
            TOPIC,
            key=record.key,
            value=record.value,
            headers=[*record.headers],
            partition=0,
            on_delivery=lambda error, _: failed.append(str(error)) if error else None,
        )
    producer.flush(60)
    assert failed == []


def codes_by_offset(system: System) -> list[str | None]:
    with psycopg.connect(system.settings.writer_dsn) as connection:
        rows = connection.execute(
            'SELECT "offset", code FROM inbox WHERE topic = %s AND partition = 0 ORDER BY "offset"', [TOPIC]
        ).fetchall()
    assert [offset for offset, _ in rows] == list(range(len(rows))), "an outcome is missing, or is there twice"
    return [code for _, code in rows]


def test_each_gets_its_one_outcome_and_the_good_ones_go_through(kafka: str, database: str, topics: tuple[str, ...], tmp_path: Path) -> None:  # noqa: ARG001 - made, then used by name
    now = datetime.now(UTC)
    hostile = hostile_records(now)
    assert len(hostile) >= 50
    sent = [record for number, nasty in enumerate(hostile.values()) for record in (nasty, good(_FIRST_GOOD + number, now))]
    with running_system(kafka, database, tmp_path) as system:
        send(kafka, sent)
        system.start("worker")
        system.start("relay")
        system.wait_for_outcomes(len(sent))
        system.wait_until_published()
        codes = codes_by_offset(system)
        assert system.breaches() == []
        printed = subprocess.run(
            [sys.executable, "-m", "worker", "rejected", "list", "--limit", "1000"],
            env={**os.environ, **environment_of(system.settings)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    assert set(codes[1::2]) == {None}, "a good intent was refused"
    for (name, nasty), code in zip(hostile.items(), codes[::2], strict=True):
        # One that is taken may be of a runbook that another one made.
        assert code in nasty.codes or (None in nasty.codes and code == "RUNBOOK_ALREADY_EXISTS"), name
    for log in tmp_path.glob("*.log"):
        assert all(line.isprintable() for line in log.read_text().split("\n")), log
        assert "INTERNAL_ERROR" not in log.read_text()
    assert all(line.isprintable() for line in printed.split("\n"))
