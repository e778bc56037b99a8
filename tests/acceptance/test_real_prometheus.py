"""A real Prometheus whose samples become SLI windows and a budget: polled, left off, taken up again, and corrected."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from fractions import Fraction
from threading import Event
from typing import TYPE_CHECKING

import pytest

from tests.support.prometheus import program, running_prometheus
from tests.support.records import create
from tests.support.roles import as_reader
from tests.support.system import System, environment_of, running_system, wait_until
from worker.cli.poll import Poller
from worker.client import Intent, IntentPublisher
from worker.codec import load_codec
from worker.domain.aggregate import SLO, intent_name
from worker.domain.fields import EPOCH
from worker.domain.slo import CreateSLO, SliSpec
from worker.integrations.poll_state import load_state
from worker.integrations.prometheus import Source
from worker.postgres.queries import connect_reader
from worker.postgres.queries.slo import SreSLOQueryService
from worker.topics import REJECTED_TOPIC

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from worker.domain.slo import SLIWindowRecorded

pytestmark = pytest.mark.usefixtures("topics")

MINUTE = timedelta(minutes=1)
GOOD = 'sum(increase(http_requests_total{code!~"5.."}[1m]))'
TOTAL = "sum(increase(http_requests_total[1m]))"
START = (datetime.now(UTC) - timedelta(hours=2)).replace(second=0, microsecond=0)  # of the samples, which reach beyond the end of the test
MINUTES = 150
CHANGED = range(40, 46)

Figures = dict[datetime, tuple[int, int]]


def figures(more_errors: range = range(0)) -> Figures:
    """Good and bad requests of each minute by its start; in a quiet one there were none."""
    requests = {START + minute * MINUTE: (100 + minute % 7, 4 if minute % 25 == 0 else 0) for minute in range(MINUTES)}
    quiet = {START + 10 * MINUTE: (0, 0)}
    wrong = {START + minute * MINUTE: (60, 20) for minute in more_errors}
    return requests | quiet | wrong


def backfill(directory: Path, requests: Mapping[datetime, tuple[int, int]]) -> None:
    """Blocks of a database in which these were scraped every 15 s."""
    lines = ["# TYPE http_requests counter"]
    for code, column in (("200", 0), ("503", 1)):
        value = 0.0
        lines.append(f'http_requests_total{{code="{code}"}} 0 {START.timestamp()}')
        for start, events in requests.items():
            for quarter in (1, 2, 3, 4):
                value += events[column] / 4
                lines.append(f'http_requests_total{{code="{code}"}} {value} {(start + quarter * MINUTE / 4).timestamp()}')
    samples = directory / "samples.txt"
    samples.write_text("\n".join([*lines, "# EOF", ""]), encoding="utf-8")
    command = [*program("promtool"), "tsdb", "create-blocks-from", "openmetrics", str(samples), str(directory / "prometheus")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


@contextmanager
def prometheus_with(directory: Path, requests: Mapping[datetime, tuple[int, int]]) -> Iterator[str]:
    directory.mkdir()
    backfill(directory, requests)
    with running_prometheus(directory, "{}") as url:
        yield url


@pytest.fixture
def system(kafka: str, database: str, tmp_path: Path) -> Iterator[System]:
    logs = tmp_path / "logs"
    logs.mkdir()
    with running_system(kafka, database, logs) as system:
        system.start("relay")
        system.start("worker")
        yield system


def recorded(system: System) -> list[SLIWindowRecorded]:
    values = [record.value or b"" for record in list(system.seen) if dict(record.headers)["ce_type"] == b"sre.core.v1.SLIWindowRecorded"]
    return [SLO.facts["SLIWindowRecorded"].validate_python(load_codec().decode("SLIWindowRecorded", value)) for value in values]


def publish(system: System, intents: list[Intent]) -> None:
    with IntentPublisher(system.settings) as publisher:
        publisher.publish(intents)


def start_poll(system: System, url: str, state: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "worker", "poll", "prometheus", "--url", url, "--tenant", "acme", "--slo", "checkout"]
    command += ["--good", GOOD, "--total", TOTAL, "--state", str(state), "--lookback", "3h", *options]
    with system.log("poll").open("ab") as log:
        process = subprocess.Popen(command, env={**os.environ, **environment_of(system.settings)}, stdout=log, stderr=log)
    system.processes.append(process)
    return process


def test_samples_become_windows_and_a_budget_and_later_samples_correct_them(system: System, tmp_path: Path) -> None:
    spec = SliSpec(good=GOOD, total=TOTAL, budgeting_method="occurrences")
    publish(system, [Intent(intent_name(CreateSLO), "acme", "checkout", create(sli_spec=spec), "/tests")])
    state, first = tmp_path / "state.json", figures()
    with prometheus_with(tmp_path / "first", first) as url:
        source = Source(url, GOOD, TOTAL, MINUTE)
        poller = Poller(source, "acme", "checkout", timedelta(minutes=30), state, lambda intents: publish(system, intents), Event())
        poller.run(START + 60 * MINUTE + timedelta(seconds=30))
        process = start_poll(system, url, state)
        wait_until(lambda: through(state) > START + 100 * MINUTE, 60, system.logs)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    until = through(state)
    asked = [START + minute * MINUTE for minute in range(30, (until - START) // MINUTE)]
    wait_until(lambda: len(recorded(system)) >= len(asked), 60, system.logs)
    assert [(fact.start, fact.good, fact.total, fact.revision) for fact in recorded(system)] == [
        (start, first[start][0], sum(first[start]), 0) for start in asked
    ]
    assert remaining(system) == budget({start: first[start] for start in asked})

    second = figures(CHANGED)
    with prometheus_with(tmp_path / "second", second) as url:
        assert start_poll(system, url, state, "--once").wait(60) == 0
    asked += [until + minute * MINUTE for minute in range((through(state) - until) // MINUTE)]
    wait_until(lambda: len(recorded(system)) >= len(asked) + len(CHANGED), 60, system.logs)
    corrections = [fact for fact in recorded(system) if fact.revision]
    assert [(fact.start, fact.good, fact.total, fact.revision) for fact in corrections] == [
        (START + minute * MINUTE, 60, 80, 1) for minute in CHANGED
    ]
    assert remaining(system) == budget({start: second[start] for start in asked})

    system.wait_until_published()
    assert [record for record in system.seen if record.topic == REJECTED_TOPIC] == []
    assert system.count("inbox") == 1 + len(asked) + len(CHANGED)
    assert system.breaches() == system.breaches(system.seen) == []


def through(state: Path) -> datetime:
    loaded = load_state(state, "acme", "checkout", 60)
    return EPOCH if loaded is None else loaded.through


def remaining(system: System) -> Decimal:
    with connect_reader(as_reader(system.settings.writer_dsn)) as connection:
        slo = SreSLOQueryService(connection).get_slo("acme", "checkout")
    assert slo is not None
    return slo.current_budget_remaining


def budget(requests: Mapping[datetime, tuple[int, int]]) -> Decimal:
    """Remaining, in percent, of an SLO of 99 % over these requests."""
    good, bad = (sum(events[column] for events in requests.values()) for column in (0, 1))
    exact = 100 * (1 - Fraction(bad, good + bad) / Fraction(1, 100))
    return (Decimal(exact.numerator) / Decimal(exact.denominator)).quantize(Decimal("0.000001"), ROUND_CEILING)
