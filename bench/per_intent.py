"""What every intent costs beside RecordSLIWindow: decided and saved in batches of 500 on a real PostgreSQL, without Kafka.

Consuming and relaying cost the same for all of them; `python -m bench` measures those. Figures are ratios within this run.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import uvloop
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from bench.cases import NOW, REFERENCE, TENANT, Ask, cases
from worker.app import build_intake
from worker.client import aggregate_of, intent_from_fields, to_outgoing
from worker.codec import load_codec
from worker.devstack.logins import WRITER, login, make_logins
from worker.devstack.postgres import running_postgres
from worker.domain.aggregate import AGGREGATES
from worker.domain.rejection import Rejection
from worker.emission import Emitter
from worker.envelope import Record
from worker.postgres.migrate import migrate
from worker.recovery import process_reliably
from worker.settings import Settings
from worker.topics import REJECTED_TOPIC, facts_topic

if TYPE_CHECKING:
    from datetime import datetime

    from worker.pipeline import Intake

BATCH = 500


@dataclass
class Bench:
    """Intakes by aggregate, and where the next record of each topic lies."""

    intakes: dict[str, Intake]
    offsets: dict[str, int]

    async def seconds(self, asks: list[Ask], time_asked: datetime) -> float:
        by_aggregate: dict[str, list[Record]] = defaultdict(list)
        names = []
        for ask in asks:
            aggregate, record = self.record(ask, time_asked)
            names.append(aggregate)
            by_aggregate[aggregate].append(record)
        began = time.perf_counter()
        for aggregate in dict.fromkeys(names):
            records = by_aggregate[aggregate]
            for first in range(0, len(records), BATCH):
                await process_reliably(records[first : first + BATCH], self.intakes[aggregate])
        return time.perf_counter() - began

    def record(self, ask: Ask, time_asked: datetime) -> tuple[str, Record]:
        name = f"{ask.name}Requested"
        intent = intent_from_fields(name, TENANT, ask.aggregate_id, ask.fields, source="/bench", time=time_asked)
        aggregate = aggregate_of(name)
        if isinstance(intent, Rejection) or aggregate is None:
            raise TypeError(f"{ask.name}: {intent}")
        outgoing = to_outgoing(intent, CODEC)
        offset = self.offsets[outgoing.topic] = self.offsets.get(outgoing.topic, 0) + 1
        stamp = round(NOW.timestamp() * 1000)
        return aggregate.name, Record(outgoing.topic, 0, offset, stamp, outgoing.key, outgoing.value, outgoing.headers)


CODEC = load_codec()


async def rates(dsn: str, count: int, rounds: int) -> dict[str, list[float]]:
    settings = Settings(kafka_bootstrap_servers="none", database_url=SecretStr(dsn))
    partitions = {REJECTED_TOPIC: 12, **{facts_topic(name): 12 for name in AGGREGATES}}
    intakes = {name: build_intake(settings, aggregate, Emitter(CODEC, partitions)) for name, aggregate in AGGREGATES.items()}
    bench = Bench({name: replace(intake, now=lambda: NOW + timedelta(minutes=4)) for name, intake in intakes.items()}, {})
    measured: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds):
        for case in cases(count, f"{number}"):
            await bench.seconds(case.before, NOW)
            later = NOW + timedelta(minutes=3)  # what is to expire is overdue by then
            measured[case.asks[0].name].append(len(case.asks) / await bench.seconds(case.asks, later))
    return measured


def main(count: int = 4_000, rounds: int = 3) -> None:
    with tempfile.TemporaryDirectory(prefix="sre-bench-") as directory:
        Path(directory).chmod(0o755)
        with running_postgres(Path(directory) / "postgres") as postgres:
            migrate(postgres.dsn)
            make_logins(postgres.dsn)
            measured = uvloop.run(rates(login(postgres.dsn, WRITER), count, rounds))
            with psycopg.connect(postgres.dsn) as connection:
                others = connection.execute(
                    "SELECT topic, outcome, code, count(*) FROM inbox WHERE outcome <> 'facts' GROUP BY 1, 2, 3"
                ).fetchall()
    if others:
        raise AssertionError(f"not every intent changed something: {others}")
    reference = measured[REFERENCE]
    table = Table("intent", "per second", f"of {REFERENCE}", title=f"{count} of each, decided and saved, median of {rounds}")
    for name, found in measured.items():
        ratio = statistics.median(one / other for one, other in zip(found, reference, strict=True))
        table.add_row(name, f"{statistics.median(found):,.0f}", f"{ratio:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
