"""Facts as a relay would write them, and as none would: repeated, out of order, in a transaction that is aborted."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from confluent_kafka import Producer

from tests.support.records import CODEC
from worker.domain.ids import uid
from worker.domain.slo import UNTOUCHED, SLOBudgetRecovered
from worker.envelope import TYPE_PREFIX
from worker.partitioner import partition_of
from worker.topics import facts_topic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from worker.client import ReceivedFact

RECOVERED = SLOBudgetRecovered(budget=UNTOUCHED)


@contextmanager
def transaction(kafka: str, *, abort: bool = False) -> Iterator[Producer]:
    """Over for every reader when it is left: Kafka answers a commit before it writes the markers, and a new life waits for those."""
    config = {"bootstrap.servers": kafka, "transactional.id": f"a-relay-{uuid4().hex}"}
    producer = Producer(config)
    producer.init_transactions()
    producer.begin_transaction()
    yield producer
    producer.flush()
    (producer.abort_transaction if abort else producer.commit_transaction)()
    Producer(config).init_transactions()


def fact_headers(name: str, version: int, aggregate: str = "slo", aggregate_id: str = "checkout") -> dict[str, str]:
    return {
        "ce_id": str(uid("fact", "acme", aggregate, aggregate_id, str(version))),
        "ce_type": TYPE_PREFIX + name,
        "ce_time": "2026-03-02T00:00:00.000000Z",
        "ce_tenantid": "acme",
        "ce_causationid": "an-intent",
        "ce_aggregatetype": aggregate,
        "ce_aggregateid": aggregate_id,
        "ce_aggregateversion": str(version),
    }


def write_fact(
    producer: Producer,
    version: int,
    fact: Any = RECOVERED,  # noqa: ANN401 - any aggregate's
    *,
    aggregate: str = "slo",
    aggregate_id: str = "checkout",
    name: str | None = None,
    value: bytes | None = None,
) -> None:
    """Into the open transaction; `name` and `value` stand in for the fact's own."""
    own = type(fact).__name__
    headers = fact_headers(name or own, version, aggregate, aggregate_id)
    producer.produce(
        facts_topic(aggregate),
        CODEC.encode(own, fact) if value is None else value,
        f"acme/{aggregate_id}/{version}",
        partition=partition_of(f"acme/{aggregate_id}".encode(), 12),
        headers=[(header, text.encode()) for header, text in headers.items()],
    )


@dataclass
class Applied:
    """A projection that keeps versions and nothing else."""

    versions: dict[tuple[str, str, str], int] = field(default_factory=dict)

    def next_offset(self, _topic: str, _partition: int) -> None:
        return None

    def last_version(self, tenant_id: str, aggregate: str, aggregate_id: str) -> int:
        return self.versions.get((tenant_id, aggregate, aggregate_id), 0)

    def apply(self, facts: Iterable[ReceivedFact]) -> None:
        for fact in facts:
            self.versions[fact.tenant_id, fact.aggregate, fact.aggregate_id] = fact.version
