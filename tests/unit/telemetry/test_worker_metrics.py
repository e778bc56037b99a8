"""What a worker counts of its batches, and what a scrape makes of questions that go unanswered."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.support.batches import batch_of
from tests.support.records import Topic, create, window
from tests.support.scrapes import Scrape
from worker.consumer_state import Backlog
from worker.domain.aggregate import AGGREGATES
from worker.domain.rejection import RejectionCode
from worker.telemetry.worker_metrics import WorkerMetrics

if TYPE_CHECKING:
    from worker.envelope import Record

PREFIX = "sre_domain_worker"
HOSTILE = [
    None,
    b"",
    b"\x00",
    b"\xff\xfe\xfd",
    b"unknown",
    b"accepted",
    b'"} 1\n# TYPE evil counter\nevil 1',
    b"CreateSLORequested",  # not without its namespace
    b"sre.core.v1.CreateSLORequested ",
    b"sre.core.v1.CreateIncidentRequested",  # of another topic
    "sre.core.v1.Create\N{FULLWIDTH LATIN CAPITAL LETTER S}LORequested".encode(),
    b"sre.core.v1." + b"x" * 10_000,
]


@dataclass
class Scene:
    backlog: Backlog | Exception = field(default_factory=lambda: Backlog({}, None))
    partitions: dict[str, int] | Exception = field(default_factory=lambda: {"inbox": 1, "outbox": 7})
    unsigned: Counter[str] = field(default_factory=Counter)
    state: str = "active"
    asked: int = 0

    def __post_init__(self) -> None:
        self.metrics = WorkerMetrics(
            state=lambda: self.state, unsigned=self.unsigned, backlog=self.ask_backlog, partitions_ahead=self.ask_partitions
        )

    def ask_backlog(self) -> Backlog:
        self.asked += 1
        if isinstance(self.backlog, Exception):
            raise self.backlog
        return self.backlog

    def ask_partitions(self) -> dict[str, int]:
        if isinstance(self.partitions, Exception):
            raise self.partitions
        return self.partitions

    def scrape(self) -> Scrape:
        return Scrape(self.metrics.scrape()[1].decode())


def claiming(record: Record, claimed: bytes | None) -> Record:
    headers = [(name, value) for name, value in record.headers if name != "ce_type"]
    return record._replace(headers=headers if claimed is None else [("ce_type", claimed), *headers])


def test_outcomes_are_counted_by_type_in_whatever_order_they_come() -> None:
    topic, scene = Topic(), Scene()
    decided = [
        (topic.append(create()), None),
        (topic.append(create()), "facts"),
        (topic.append(window(0)), "facts"),
        (topic.append(window(0), partition=1), None),
        (topic.append(window(0), partition=1), "no_change"),
        (topic.append(window(1)), "SLO_NOT_FOUND"),
        (topic.append(window(1)), None),
    ]
    scene.metrics.tell(batch_of(decided))
    scene.metrics.tell(batch_of([(topic.append(create()), "facts")]))
    found = scene.scrape()
    assert found.by(f"{PREFIX}_intents_total", "type", "outcome") == {
        ("CreateSLORequested", "accepted"): 2,
        ("CreateSLORequested", "duplicate"): 1,
        ("RecordSLIWindowRequested", "accepted"): 1,
        ("RecordSLIWindowRequested", "no_change"): 1,
        ("RecordSLIWindowRequested", "rejected"): 1,
        ("RecordSLIWindowRequested", "duplicate"): 2,
    }
    assert found.by(f"{PREFIX}_rejections_total", "code") == {("SLO_NOT_FOUND",): 1}
    assert found.value(f"{PREFIX}_batch_size_intents_sum") == 8
    assert found.value(f"{PREFIX}_batch_size_intents_bucket", le="5.0") == 1
    assert found.value(f"{PREFIX}_batch_stage_duration_seconds_sum", stage="decide") == pytest.approx(0.006)


def test_a_batch_of_what_is_decided_already_is_all_duplicates() -> None:
    topic, scene = Topic(), Scene()
    scene.metrics.tell(batch_of([(topic.append(create()), None), (topic.append(create()), None)]))
    found = scene.scrape()
    assert found.by(f"{PREFIX}_intents_total", "outcome") == {("duplicate",): 2}
    assert found.value(f"{PREFIX}_intent_to_outcome_duration_seconds_count") == 0


@pytest.mark.parametrize("claimed", HOSTILE, ids=range(len(HOSTILE)))
def test_whatever_type_a_record_claims_no_series_is_added(claimed: bytes | None) -> None:
    topic, scene = Topic(), Scene()
    before = scene.scrape()
    records = [claiming(topic.append(create()), claimed), claiming(topic.append(create()), claimed)._replace(value=None)]
    scene.metrics.tell(batch_of([(record, "UNKNOWN_INTENT") for record in records]))
    found = scene.scrape()
    assert found.by(f"{PREFIX}_intents_total", "type", "outcome") == {("unknown", "rejected"): 2}
    assert found.labels(f"{PREFIX}_intents_total") == before.labels(f"{PREFIX}_intents_total")
    assert set(found.families) == set(before.families)


def test_a_refused_record_of_a_known_type_counts_under_it() -> None:
    topic, scene = Topic(), Scene()
    record = topic.append(create())
    without_tenant = record._replace(headers=[header for header in record.headers if header[0] != "ce_tenantid"])
    scene.metrics.tell(batch_of([(without_tenant, "TENANT_REQUIRED")]))
    assert scene.scrape().by(f"{PREFIX}_intents_total", "type", "outcome") == {("CreateSLORequested", "rejected"): 1}


def test_a_series_is_there_before_its_first_event() -> None:
    found = Scene().scrape()
    assert len(found.labels(f"{PREFIX}_intents_total")) == 4 * (1 + sum(len(aggregate.intents) for aggregate in AGGREGATES.values()))
    assert len(found.labels(f"{PREFIX}_rejections_total")) == len(RejectionCode)
    assert found.by(f"{PREFIX}_intents_total", "type") == {}


@pytest.mark.parametrize(
    ("ago_seconds", "bounds"), [(-3600, {"0.005": 1.0}), (0.02, {"0.01": 0.0, "60.0": 1.0}), (1e4, {"300.0": 0.0, "+Inf": 1.0})]
)
def test_an_intent_is_as_old_as_the_broker_says_and_never_younger_than_now(ago_seconds: float, bounds: dict[str, float]) -> None:
    topic, scene = Topic(), Scene()
    stamp = round((time.time() - ago_seconds) * 1000)
    scene.metrics.tell(batch_of([(topic.append(create())._replace(timestamp_ms=stamp), "facts")]))
    found = scene.scrape()
    assert {bound: found.value(f"{PREFIX}_intent_to_outcome_duration_seconds_bucket", le=bound) for bound in bounds} == bounds
    assert (found.value(f"{PREFIX}_intent_to_outcome_duration_seconds_sum") or 0) >= 0


def test_lag_and_age_are_as_the_consumer_says() -> None:
    scene = Scene(Backlog({"sre.slo.intents.v1": 3}, time.time() - 60))
    found = scene.scrape()
    assert found.by(f"{PREFIX}_consumer_lag_records", "topic") == {("sre.slo.intents.v1",): 3}
    assert len(found.labels(f"{PREFIX}_consumer_lag_records")) == len(AGGREGATES)
    assert (found.value(f"{PREFIX}_oldest_unacknowledged_intent_age_seconds") or 0) >= 60
    assert found.by(f"{PREFIX}_table_partitions_ahead", "table") == {("inbox",): 1, ("outbox",): 7}


def test_what_gets_no_answer_is_left_out_and_the_rest_is_told() -> None:
    scene = Scene(TimeoutError(), RuntimeError("the database is away"))
    found = scene.scrape()
    assert found.labels(f"{PREFIX}_collector_success") == {(("collector", "kafka"),), (("collector", "postgresql"),)}
    assert found.by(f"{PREFIX}_collector_success", "collector") == {}
    assert found.labels(f"{PREFIX}_consumer_lag_records") == set()
    assert found.labels(f"{PREFIX}_table_partitions_ahead") == set()
    assert found.value(f"{PREFIX}_state", state="active") == 1


def test_however_many_scrape_it_is_asked_once() -> None:
    scene = Scene()
    for _ in range(5):
        scene.scrape()
    assert scene.asked == 1


def test_the_one_state_is_what_probes_are_told() -> None:
    assert Scene(state="waiting for Kafka").scrape().by(f"{PREFIX}_state", "state") == {("waiting for Kafka",): 1}


def test_unsigned_intents_are_those_that_authentication_counts() -> None:
    unsigned = Counter({"KEY_REVOKED": 2})
    found = Scene(unsigned=unsigned).scrape()
    assert found.by(f"{PREFIX}_unsigned_intents_total", "code") == {("KEY_REVOKED",): 2}
