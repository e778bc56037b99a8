"""The load: SLOs, then a window a minute for each of them in turn, as a fleet of access-log importers would send; a few are traced."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from worker.client import Intent, Outgoing, to_outgoing
from worker.codec import load_codec
from worker.domain.slo import CreateSLO, RecordSLIWindow, SliSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOS = 100
SAMPLED_ONE_IN = 100
_SPEC = SliSpec(good="status < 500", total="all requests", budgeting_method="occurrences")


def intents(windows: int) -> Iterator[Outgoing]:
    """SLOS creations and that many windows; one fact each: none of them crosses the budget."""
    codec, now = load_codec(), datetime.now(UTC)
    first = now.replace(minute=0, second=0, microsecond=0) - timedelta(days=2)
    for number in range(SLOS):
        create = CreateSLO(
            name=f"Service {number}", target=Decimal(99), window="30d", sli_spec=_SPEC, owner="sre", scope="bench", actor="bench"
        )
        yield to_outgoing(Intent("CreateSLORequested", "acme", f"slo-{number}", create, "/bench", time=now), codec)
    for number in range(windows):
        minute, slo = divmod(number, SLOS)
        window = RecordSLIWindow(start=first + timedelta(minutes=minute), width_seconds=60, good=995 + minute % 5, total=1000)
        record = to_outgoing(Intent("RecordSLIWindowRequested", "acme", f"slo-{slo}", window, "/bench", time=now), codec)
        if number % SAMPLED_ONE_IN == 0:
            trace = ("ce_traceparent", b"00-%032x-b7ad6b7169203331-01" % (number + 1))
            record = replace(record, headers=[*record.headers, trace])
        yield record
