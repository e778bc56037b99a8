"""The audit can fail: each deliberate break of worker or relay, provoked, turns the check red that is meant for it.

build/mutations.json has every break with the checks of docs/contract.md, "Invariants", that went red.
"""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest

from tests.faults.workload import SLOS, workload
from tests.support.results import record_result
from tests.support.system import System, running_system, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from worker.client import Outgoing

FEW = 300
SESSION_SECONDS = 1.0


@pytest.fixture
def system(kafka: str, database: str, topics: tuple[str, ...], tmp_path: Path) -> Iterator[System]:  # noqa: ARG001 - made, then used by name
    with running_system(kafka, database, tmp_path) as running:
        yield running


def assert_red(system: System, broken: str, breach: str) -> None:
    """That a reader who starts now finds a breach like this one."""
    found = system.breaches()
    checks = sorted({int(line.split(":")[0]) for line in found})
    record_result("mutations.json", broken, {"checks": checks, "breaches": len(found), "first": next(iter(found), None)})
    number, _, what = breach.partition(": ")
    assert any(line.startswith(f"{number}: ") and what in line for line in found), found[:5]


def decide(system: System, records: Sequence[Outgoing], outcomes: int, broken: str | None = None) -> None:
    """Let a worker decide all of these, so that a relay finds them in one group."""
    system.publish(records)
    system.start("worker", broken)
    system.wait_for_outcomes(outcomes)


def wait_until_all_came(system: System, records: Sequence[Outgoing]) -> None:
    """A record of no use goes behind all others of each partition: once it has its outcome, whatever has none is lost."""
    system.publish([replace(record, headers=()) for record in records[:SLOS]])
    system.wait_for_outcomes(SLOS, where="code = 'TENANT_REQUIRED'")
    system.wait_until_published()


def leave_to_relay(system: System) -> None:
    """A worker and a relay have been at work, the relay has ended, and there is more for the next one."""
    records, outcomes = workload(FEW)
    relay = system.start("relay")
    decide(system, records[:SLOS], SLOS)
    system.wait_until_published()
    relay.terminate()
    assert relay.wait(20) == 0
    system.publish(records[SLOS:])
    system.wait_for_outcomes(outcomes)


def wait_until_relayed(system: System) -> None:
    """A relay has confirmed all that is in the WAL by now: whatever was not published never will be."""
    confirmed = "SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots WHERE slot_name = %s"
    with psycopg.connect(system.settings.relay_dsn, autocommit=True) as connection:
        (end,) = connection.execute("SELECT pg_current_wal_insert_lsn()").fetchone() or (None,)
        asked = [end, system.settings.relay_slot]
        wait_until(lambda: connection.execute(confirmed, asked).fetchone() == (True,), 60, lambda: f"all is confirmed {system.logs()}")


def test_break_without_dedupe_is_seen(system: System) -> None:
    records, _ = workload(3_000)
    system.publish(records)
    system.start("worker", broken="no_dedupe")
    system.start("relay")
    wait_until_all_came(system, records)
    assert_red(system, "no_dedupe", "2: ")


def test_break_with_acknowledgement_first_is_seen(system: System) -> None:
    records, _ = workload(4_000)
    system.publish(records)
    worker = system.start("worker", broken="ack_first")
    system.start("relay")
    system.wait_for_outcomes(1_000)
    time.sleep(0.5)  # into the gap between an acknowledgement and its commit, which this break has made a second long
    system.kill(worker)
    system.start("worker")
    wait_until_all_came(system, records)
    assert_red(system, "ack_first", "1: no outcome")


def test_break_with_swallowed_errors_is_seen(system: System) -> None:
    records, _ = workload(FEW)
    system.publish(records)
    system.start("worker", broken="errors_swallowed")
    wait_until(lambda: "going on" in system.log("worker").read_text(), 60, system.logs)
    system.start("relay")
    wait_until_all_came(system, records)
    assert_red(system, "errors_swallowed", "1: no outcome")


def test_break_with_the_outbox_in_a_transaction_of_its_own_is_seen(system: System) -> None:
    records, outcomes = workload(FEW)
    system.publish(records)
    assert system.start("worker", broken="outbox_outside").wait(60) == 9
    system.start("worker")
    system.start("relay")
    system.wait_for_outcomes(outcomes)
    wait_until_relayed(system)
    assert_red(system, "outbox_outside", "2: was never published")


def test_break_with_states_from_memory_is_seen(system: System) -> None:
    """A worker is paused for longer than its session, another one decides meanwhile, and then it wakes."""
    system.settings = system.settings.model_copy(update={"session_timeout_seconds": SESSION_SECONDS})
    records, outcomes = workload(3 * SLOS)
    created, meanwhile, later = (records[start : start + SLOS] for start in (0, SLOS, 2 * SLOS))
    decide(system, created, SLOS, broken="states_remembered")
    remembering = system.processes[-1]
    remembering.send_signal(signal.SIGSTOP)
    decide(system, meanwhile, 2 * SLOS)
    other = system.processes[-1]
    other.terminate()
    assert other.wait(20) == 0
    remembering.send_signal(signal.SIGCONT)
    system.publish(later)
    system.start("relay")
    system.wait_for_outcomes(outcomes)
    system.wait_until_published()
    assert_red(system, "states_remembered", "3: outbox rows of one id")


def test_break_with_a_state_left_out_is_seen(system: System) -> None:
    records, outcomes = workload(FEW)
    decide(system, records[:SLOS], SLOS, broken="state_not_saved")
    system.publish(records[SLOS:])
    system.start("relay")
    system.wait_for_outcomes(outcomes)
    system.wait_until_published()
    assert_red(system, "state_not_saved", "5: ")


def test_break_with_a_record_left_out_is_seen(system: System) -> None:
    records, outcomes = workload(FEW)
    decide(system, records, outcomes, broken="record_left_out")
    system.start("relay")
    system.wait_until_published()
    assert_red(system, "record_left_out", "8: ")


@pytest.mark.parametrize(
    ("broken", "breach"),
    [
        ("commit_lsn", "2: publications of one id"),
        ("watermark_outside", "2: publications of one id"),
        ("watermark_first", "2: was never published"),
        ("confirm_first", "2: was never published"),
    ],
)
def test_break_of_a_relay_that_dies_between_two_steps_is_seen(system: System, broken: str, breach: str) -> None:
    leave_to_relay(system)
    assert system.start("relay", broken).wait(60) == 9
    system.start("relay")
    wait_until_relayed(system)
    assert_red(system, broken, breach)


@pytest.mark.parametrize(("broken", "breach"), [("rows_reversed", "4: "), ("producer_reused", "2: publications of one id")])
def test_break_of_a_relay_that_lives_on_is_seen(system: System, broken: str, breach: str) -> None:
    leave_to_relay(system)
    system.start("relay", broken)
    wait_until_relayed(system)
    assert_red(system, broken, breach)


def test_break_without_fencing_is_seen(system: System) -> None:
    """A relay is paused with a group in hand, another one takes its place, and then it wakes."""
    leave_to_relay(system)
    paused = system.start("relay", broken="no_fencing")
    wait_until(lambda: psutil.Process(paused.pid).status() == psutil.STATUS_STOPPED, 60, lambda: f"the relay is paused {system.logs()}")
    with psycopg.connect(system.settings.relay_dsn, autocommit=True) as connection:  # as PostgreSQL does after wal_sender_timeout
        sender = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s"
        connection.execute(sender, [system.settings.relay_slot])
    system.start("relay")
    wait_until_relayed(system)
    paused.send_signal(signal.SIGCONT)
    wait_until(lambda: len(system.seen) > system.count("outbox"), 60, lambda: f"both have published {system.logs()}")
    assert_red(system, "no_fencing", "2: publications of one id")
