"""Every code that a record can come to, from real messages, and the good ones between them unharmed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from tests.support.records import CODEC, create
from tests.support.refusals import rounds
from tests.support.system import System, environment_of, running_system
from worker.client import Intent, Outgoing, to_outgoing
from worker.dead_letters.replay import ASKER_CODES
from worker.domain.aggregate import intent_name
from worker.domain.rejection import RejectionCode
from worker.domain.slo import RecordSLIWindow, UpdateSLO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from worker.domain.slo import Command

NOW = datetime.now(UTC)
DAY = NOW.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
UPDATE = {name: getattr(create(), name) for name in UpdateSLO.__dataclass_fields__ if name != "expected_version"}


def ask(command: Command, slo_id: str = "checkout", intent_id: str | None = None, time: datetime = NOW) -> Outgoing:
    rest = {} if intent_id is None else {"intent_id": intent_id}
    return to_outgoing(Intent(intent_name(type(command)), "acme", slo_id, command, "/tests", time=time, **rest), CODEC)


def with_headers(record: Outgoing, **changes: bytes | None) -> Outgoing:
    headers = {**dict(record.headers), **changes}
    return replace(record, headers=[(name, value) for name, value in headers.items() if value is not None])


def window(minute: int, width: int = 60, good: int = 99, total: int = 100, version: int | None = None) -> RecordSLIWindow:
    start = DAY + timedelta(minutes=minute)
    return RecordSLIWindow(start=start, width_seconds=width, good=good, total=total, expected_version=version)


def story() -> list[tuple[Outgoing, str | None]]:
    """Records of one partition in their order, each with the code that it must come to (None: accepted)."""
    good = ask(window(0), intent_id="good")
    return [
        (ask(create()), None),
        (good, None),
        (replace(good, value=b"\x00garbage"), "IDEMPOTENCY_KEY_REUSED"),
        (with_headers(replace(good, value=b"\x00garbage"), ce_id=b"garbage"), "SCHEMA_INVALID"),
        (with_headers(replace(good, value=b"\xc3\x01unknown!"), ce_id=b"unknown"), "SCHEMA_INVALID"),
        (with_headers(replace(good, value=good.value + b"\x00"), ce_id=b"trailing"), "SCHEMA_INVALID"),
        (with_headers(good, ce_tenantid=None), "TENANT_REQUIRED"),
        (with_headers(good, ce_specversion=b"0.3", ce_id=b"version"), "SCHEMA_INVALID"),
        (with_headers(good, ce_type=b"sre.core.v1.CloseSLORequested", ce_id=b"type"), "UNKNOWN_INTENT"),
        (with_headers(replace(good, value=b"x" * 400_000), ce_id=b"huge"), "MESSAGE_TOO_LARGE"),
        (ask(window(1), time=NOW + timedelta(hours=1)), "TIMESTAMP_IN_FUTURE"),
        (ask(window(1), time=NOW - timedelta(days=31)), "INTENT_EXPIRED"),
        (ask(window(1, version=77)), "VERSION_CONFLICT"),
        (ask(create(description="x" * 10_001)), "LIMIT_EXCEEDED"),
        (ask(create()), "SLO_ALREADY_EXISTS"),
        (ask(create(target=Decimal(0))), "SLO_TARGET_OUT_OF_RANGE"),
        (ask(UpdateSLO(**{**UPDATE, "target": Decimal(100)})), "SLO_TARGET_OUT_OF_RANGE"),
        (ask(create(window="14d")), "SLO_WINDOW_UNSUPPORTED"),
        (ask(create(sli_spec=replace(create().sli_spec, good=" "))), "SLI_SPEC_INVALID"),
        (ask(window(1, good=101)), "SLI_COUNTS_INVALID"),
        (ask(window(1, width=90)), "SLI_WINDOW_MISALIGNED"),
        (ask(window(0, width=300)), "SLI_WINDOW_OVERLAP"),
        (ask(window(0, good=98)), "SLI_WINDOW_CONFLICT"),
        (ask(window(-60 * 24 * 8)), "SLI_WINDOW_EXPIRED"),
        (ask(window(2)), None),
    ]


@pytest.fixture
def system(kafka: str, database: str, topics: tuple[str, ...], tmp_path: Path) -> Iterator[System]:  # noqa: ARG001 - made, then used by name
    with running_system(kafka, database, tmp_path) as running:
        yield running


def test_every_code_comes_back_and_the_rest_of_the_batch_is_unharmed(system: System) -> None:
    first, *others = rounds()
    records: list[tuple[Outgoing, str | None]] = []
    system.start("worker")
    system.start("relay")
    for asked in ([*story(), (ask(window(3), slo_id="nobody"), "SLO_NOT_FOUND"), *first], *others):
        system.publish(record for record, _ in asked)
        records += asked
        system.wait_for_outcomes(len(records))
    system.wait_until_published()
    assert system.breaches() == []
    command = [sys.executable, "-m", "worker", "rejected", "--from-beginning"]
    printed = subprocess.run(command, env={**os.environ, **environment_of(system.settings)}, capture_output=True, check=True).stdout
    codes = sorted(json.loads(line)["code"] for line in printed.splitlines())
    expected = [code for _, code in records if code is not None]
    assert codes == sorted(expected)
    assert set(expected) == set(RejectionCode) - {RejectionCode.INTERNAL_ERROR, *ASKER_CODES}, "a code without a record here"
    assert system.count("inbox", "outcome = 'facts'") == sum(code is None for _, code in records)
