"""What telling of batches costs: microseconds a batch of 500, and its share of deciding and saving that batch on a real PostgreSQL.

`python -m bench` has the whole: worker and relay with everything switched on, beside themselves without it.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from bench.workload import intents
from worker.app import build_intake
from worker.codec import load_codec
from worker.consumer_state import Backlog
from worker.devstack.logins import WRITER, login, make_logins
from worker.devstack.postgres import running_postgres
from worker.domain.aggregate import SLO
from worker.emission import Emitter
from worker.envelope import Record
from worker.postgres.migrate import migrate
from worker.recovery import process_reliably
from worker.settings import Settings
from worker.telemetry.spans import Spans
from worker.telemetry.worker_metrics import WorkerMetrics
from worker.topics import REJECTED_TOPIC, facts_topic

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.pipeline import Batch

BATCH = 500
_TRACE = b"00-%032x-b7ad6b7169203331-%02x"


def records(count: int, sampled_one_in: int) -> list[Record]:
    """Those of `bench.workload`, with a traceparent each; every so many is sampled, none for 0."""
    found = []
    for offset, outgoing in enumerate(intents(count)):
        sampled = sampled_one_in > 0 and offset % sampled_one_in == 0
        trace = ("ce_traceparent", _TRACE % (offset + 1, sampled))
        headers = [*outgoing.headers, trace]
        found.append(Record(outgoing.topic, 0, offset, round(time.time() * 1000), outgoing.key, outgoing.value, headers))
    return found


async def batches(dsn: str, taken: Sequence[Record]) -> tuple[list[Batch], float]:
    """All batches as they are told of, and the median seconds that one took to be decided and saved."""
    settings = Settings(kafka_bootstrap_servers="none", database_url=SecretStr(dsn))
    heard: list[Batch] = []
    intake = build_intake(settings, SLO, Emitter(load_codec(), {REJECTED_TOPIC: 12, facts_topic("slo"): 12}), tell=heard.append)
    seconds = []
    for first in range(0, len(taken), BATCH):
        began = time.perf_counter()
        await process_reliably(taken[first : first + BATCH], intake)
        seconds.append(time.perf_counter() - began)
    return [batch for batch in heard if len(batch.received) == BATCH], statistics.median(seconds)


def microseconds(tell: Callable[[Batch], None], told: Sequence[Batch]) -> float:
    """The median of what each batch cost."""
    spent = []
    for batch in told:
        began = time.perf_counter()
        tell(batch)
        spent.append(time.perf_counter() - began)
    return statistics.median(spent) * 1e6


def spans() -> Spans:
    """As the worker has them, to nobody: what is measured is what the event loop pays."""
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult  # noqa: PLC0415

    class Nobody(SpanExporter):
        def export(self, _: Any) -> SpanExportResult:  # noqa: ANN401 - the overridden signature
            return SpanExportResult.SUCCESS

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(Nobody()))
    return Spans(provider.get_tracer("bench"))


def main(count: int = 20_000) -> None:
    metrics = WorkerMetrics(state=lambda: "", unsigned=Counter(), backlog=lambda: Backlog({}, None), partitions_ahead=dict)
    table = Table("told of a batch of 500", "µs", "of the batch")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sre-bench-")))
        directory.chmod(0o755)
        postgres = stack.enter_context(running_postgres(directory / "postgres"))
        migrate(postgres.dsn)
        make_logins(postgres.dsn)
        told, seconds = uvloop.run(batches(login(postgres.dsn, WRITER), records(count, 0)))
    traced = [with_sampled(batch, 1) for batch in told]
    listeners = {
        "metrics": (metrics.tell, told),
        "spans, none sampled": (spans().tell_batch, told),
        "spans, 1 in 100 sampled": (spans().tell_batch, [with_sampled(batch, 100) for batch in told]),
        "spans, all sampled": (spans().tell_batch, traced),
    }
    for name, (tell, heard) in listeners.items():
        spent = microseconds(tell, heard)
        table.add_row(name, f"{spent:,.0f}", f"{spent / seconds / 1e4:.2f} %")
    table.add_row("decided and saved", f"{seconds * 1e6:,.0f}", "100 %")
    Console().print(table)


def with_sampled(batch: Batch, one_in: int) -> Batch:
    """The same batch with every so many of its intents sampled."""
    received = list(batch.received)
    for number in range(0, len(received), one_in):
        item = received[number]
        verdict: Any = item.verdict
        trace = replace(verdict.envelope.trace, traceparent=(_TRACE % (number + 1, 1)).decode())
        record = item.record._replace(headers=[*item.record.headers[:-1], ("ce_traceparent", _TRACE % (number + 1, 1))])
        received[number] = replace(item, record=record, verdict=replace(verdict, envelope=replace(verdict.envelope, trace=trace)))
    return replace(batch, received=received)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
