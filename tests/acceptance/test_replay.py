"""Refused, mended, replayed: with workers and a relay, on a real Kafka and PostgreSQL, every intent comes to its facts exactly once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.support.records import CODEC, create
from tests.support.system import System, environment_of, running_system, wait_until
from worker.audit import header_values
from worker.client import Intent, Outgoing, to_outgoing
from worker.domain.aggregate import intent_name
from worker.domain.slo import Command, RecordSLIWindow
from worker.evidence import read_records

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import LiteralString

INTENTS = "sre.slo.intents.v1"
NOW = datetime.now(UTC)
DAY = NOW.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
FAULT: LiteralString = "ALTER TABLE slo ADD CONSTRAINT fault CHECK (slo_id NOT LIKE 'bad-%')"
MENDED: LiteralString = "ALTER TABLE slo DROP CONSTRAINT fault"


def ask(command: Command, slo_id: str, tenant: str = "acme") -> Outgoing:
    return to_outgoing(Intent(intent_name(type(command)), tenant, slo_id, command, "/tests", time=NOW), CODEC)


@pytest.fixture
def system(kafka: str, database: str, topics: tuple[str, ...], tmp_path: Path) -> Iterator[System]:  # noqa: ARG001 - made, then used by name
    with running_system(kafka, database, tmp_path) as running:
        running.start("worker")
        running.start("relay")
        yield running


def start_replay(system: System, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "worker", "rejected", "replay", *arguments]
    environment = {**os.environ, **environment_of(system.settings)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    system.processes.append(process)
    return process


def replay(system: System, *arguments: str) -> str:
    process = start_replay(system, *arguments)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    return said.decode()


def execute(system: System, statement: LiteralString) -> None:
    with psycopg.connect(system.settings.writer_dsn) as connection:
        connection.execute(statement)


def asked(system: System) -> int:
    return len(read_records(system.settings, [INTENTS]))


def wait_until_all_is_decided(system: System) -> None:
    """Every record that is in the topic by now, repeats too, which leave no trace but this."""
    count = asked(system)

    def decided() -> int:
        with psycopg.connect(system.settings.writer_dsn) as connection:
            row = connection.execute("SELECT coalesce(sum(next_offset), 0) FROM intake_position WHERE topic = %s", [INTENTS]).fetchone()
        assert row is not None
        return int(row[0])

    wait_until(lambda: decided() == count, 120, lambda: f"{decided()} of {count} records are decided {system.logs()}")


def test_what_a_fault_refused_has_its_facts_once_it_is_mended(system: System) -> None:
    names = [f"{kind}-{number}" for number in range(20) for kind in ("good", "bad")]
    execute(system, FAULT)
    system.publish(ask(create(), name) for name in names)
    system.wait_for_outcomes(40)
    system.wait_until_published()
    assert system.count("slo") == system.count("inbox", "code = 'INTERNAL_ERROR'") == 20
    execute(system, MENDED)
    for _ in range(2):
        assert "20 rejections selected, 20 intents sent" in replay(system, "--code", "INTERNAL_ERROR")
        wait_until_all_is_decided(system)
    system.wait_until_published()
    assert system.count("slo") == system.count("inbox", "outcome = 'facts'") == 40
    assert system.count("inbox") == 60
    assert system.breaches(system.seen) == []


def test_a_fault_that_is_not_mended_refuses_again_and_one_replay_later_each_is_done_once(system: System) -> None:
    execute(system, FAULT)
    system.publish(ask(create(), f"bad-{number}") for number in range(3))
    system.wait_for_outcomes(3)
    system.wait_until_published()
    replay(system, "--code", "INTERNAL_ERROR")
    system.wait_for_outcomes(6)
    system.wait_until_published()
    execute(system, MENDED)
    assert "6 rejections selected, 3 intents sent" in replay(system, "--code", "INTERNAL_ERROR")
    system.wait_for_outcomes(9)
    system.wait_until_published()
    assert system.count("inbox", "outcome = 'facts'") == system.count("slo") == 3
    assert system.breaches(system.seen) == []


@pytest.mark.timeout(600)
def test_a_replay_that_is_killed_in_the_middle_and_repeated_does_each_once(system: System) -> None:
    slos, windows = 6, 250
    system.publish(
        ask(RecordSLIWindow(start=DAY + timedelta(minutes=minute), width_seconds=60, good=99, total=100), f"slo-{number}")
        for minute in range(windows)
        for number in range(slos)
    )
    refused = slos * windows
    system.wait_for_outcomes(refused)
    system.publish(ask(create(), f"slo-{number}") for number in range(slos))
    system.wait_for_outcomes(refused + slos)
    system.wait_until_published()
    before = asked(system)
    process = start_replay(system, "--code", "SLO_NOT_FOUND", "--limit", "2000")
    wait_until(lambda: asked(system) > before + 100, 60, lambda: f"the replay sends nothing: {process.poll()}")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)
    assert before + 100 < asked(system) < before + refused, "the replay was not killed in its middle"
    assert f"{refused} rejections selected, {refused} intents sent" in replay(system, "--code", "SLO_NOT_FOUND", "--limit", "2000")
    assert asked(system) > before + refused, "nothing was sent twice, so nothing is shown"
    wait_until_all_is_decided(system)
    system.wait_until_published()
    assert system.count("inbox", "outcome = 'facts'") == refused + slos
    assert system.count("inbox") == 2 * refused + slos
    recorded = [header_values(record) for record in system.seen if header_values(record)["ce_type"].endswith("SLIWindowRecorded")]
    assert len(recorded) == refused
    causes = {header_values(record)["ce_causationid"] for record in system.seen if record.topic == "sre.intents.rejected.v1"}
    assert {headers["ce_correlationid"] for headers in recorded} == causes, "the old intent is what all of it is about"
    assert system.breaches(system.seen) == []
