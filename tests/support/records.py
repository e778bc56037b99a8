"""Records as a broker would hand them over, built from commands."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from worker.client import Intent, to_outgoing
from worker.codec import load_codec
from worker.domain.aggregate import intent_name
from worker.domain.slo import CreateSLO, RecordSLIWindow, SliSpec
from worker.envelope import Record

CODEC = load_codec()
NOW = datetime(2026, 3, 9, 12, tzinfo=UTC)
SPEC = SliSpec(good="status < 500", total="all requests", budgeting_method="occurrences")


def create(**changes: object) -> CreateSLO:
    definition: dict[str, object] = {
        "name": "Checkout availability",
        "target": Decimal("99.000000"),
        "window": "7d",
        "sli_spec": SPEC,
        "owner": "team-checkout",
        "scope": "checkout",
        "actor": "ann",
    }
    return CreateSLO(**{**definition, **changes})  # type: ignore[arg-type]


def window(minute: int, good: int = 99, total: int = 100, revision: int = 0) -> RecordSLIWindow:
    """A window of 60 s, `minute` minutes into the day before NOW."""
    start = NOW.replace(hour=0) - timedelta(days=1) + timedelta(minutes=minute)
    return RecordSLIWindow(start=start, width_seconds=60, good=good, total=total, revision=revision)


@dataclass
class Topic:
    """Hands out records at rising offsets of its partitions, as a topic does."""

    name: str = "sre.slo.intents.v1"
    now: datetime = NOW
    ends: dict[int, int] = field(default_factory=dict)

    def append(
        self,
        command: object,
        aggregate_id: str = "checkout",
        *,
        tenant: str = "acme",
        intent_id: str | None = None,
        time: datetime | None = None,
        partition: int = 0,
    ) -> Record:
        rest = {} if intent_id is None else {"intent_id": intent_id}
        intent = Intent(intent_name(type(command)), tenant, aggregate_id, command, "/tests", time=time or self.now, **rest)
        outgoing = to_outgoing(intent, CODEC)
        return self.append_raw(outgoing.key, outgoing.value, outgoing.headers, partition=partition)

    def append_raw(self, key: bytes | None, value: bytes | None, headers: object, *, partition: int = 0) -> Record:
        offset = self.ends.get(partition, 0)
        self.ends[partition] = offset + 1
        stamp = int(self.now.timestamp() * 1000)
        return Record(self.name, partition, offset, stamp, key, value, list(headers))  # type: ignore[call-overload]
