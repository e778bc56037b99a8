"""What worker and relay, as processes, tell of themselves, held against what really became of every record."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.k8s.asked_for import asked_for_by_dashboard_and_alerts
from tests.support.databases import own_database
from tests.support.kafka import empty_topics
from tests.support.otlp import ReceivedSpan, receiving_spans
from tests.support.pipelines import query
from tests.support.records import CODEC, create
from tests.support.scrapes import Scrape, scrape
from tests.support.system import running_system, wait_until
from worker.client import Intent, Outgoing, publish_as_is, to_outgoing
from worker.devstack.processes import LOOPBACK, free_port
from worker.domain.aggregate import AGGREGATES, intent_name
from worker.domain.slo import RecordSLIWindow
from worker.kafka_config import librdkafka_config
from worker.relay.watermark import decode, read_committed
from worker.topics import topic_specs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.system import System

NOW = datetime.now(UTC)
DAY = NOW.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
PARENT = "b7ad6b7169203331"
SAMPLED = {name: f"{number:032x}" for number, name in enumerate(("created", "again", "refused"), 1)}
NOT_SAMPLED = "0af7651916cd43dd8448eb211c80319c"
HOSTILE = [
    b"",
    b"\xff\xfe",
    b'x"} 1\n# HELP',
    b"sre.core.v1.CreateSLO\xc2\xa0Requested",
    *(b"sre.core.v1.Made%dUpRequested" % n for n in range(40)),
]
LATE = 3
UNSIGNED = {"SRE_SIGNATURES": "warn"}
UNLIMITED = "sre_domain_relay_slot_safe_wal_bytes"  # not told where max_slot_wal_keep_size is not set, as here


@dataclass
class Evidence:
    system: System
    sent: int
    outbox_rows: int
    held_up: Scrape
    worker: Scrape
    relay: Scrape
    standby: Scrape
    spans: list[ReceivedSpan]
    logs: dict[str, list[dict[str, Any]]]
    decided: dict[tuple[str, str | None], int]


def ask(command: object, intent_id: str, trace_id: str | None = None, flags: str = "01") -> Outgoing:
    record = to_outgoing(Intent(intent_name(type(command)), "acme", "checkout", command, "/tests", time=NOW, intent_id=intent_id), CODEC)
    if trace_id is None:
        return record
    trace = [("ce_traceparent", f"00-{trace_id}-{PARENT}-{flags}".encode()), ("ce_tracestate", b"vendor=1")]
    return replace(record, headers=[*record.headers, *trace])


def with_header(record: Outgoing, name: str, value: bytes | None) -> Outgoing:
    kept = [(known, was) for known, was in record.headers if known != name]
    return replace(record, headers=kept if value is None else [*kept, (name, value)])


def story() -> list[Outgoing]:
    window = RecordSLIWindow(start=DAY, width_seconds=60, good=99, total=100)
    created = ask(create(), "created", SAMPLED["created"])
    good = ask(window, "window", NOT_SAMPLED, flags="00")
    return [
        created,
        created,
        good,
        ask(window, "again", SAMPLED["again"]),
        replace(ask(window, "refused", SAMPLED["refused"]), value=b"garbage"),
        with_header(good, "ce_tenantid", None),
        *(with_header(with_header(good, "ce_type", claimed), "ce_id", b"hostile-%d" % number) for number, claimed in enumerate(HOSTILE)),
    ]


@pytest.fixture(scope="module")
def evidence(kafka: str, server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evidence]:
    directory = tmp_path_factory.mktemp("telemetry")
    ports = {"worker": free_port(), "relay": free_port(), "standby": free_port()}
    empty_topics(kafka, topic_specs(tuple(AGGREGATES)))
    with (
        receiving_spans() as (endpoint, spans),
        own_database(server, template) as database,
        pytest.MonkeyPatch.context() as patch,
        running_system(kafka, database, directory) as system,
    ):
        telemetry = {
            "SRE_LOG_FORMAT": "json",
            "SRE_LOG_LEVEL": "debug",
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        for name, value in (telemetry | UNSIGNED).items():
            patch.setitem(os.environ, name, value)
        for name, port in ports.items():
            patch.setitem(os.environ, "SRE_HEALTH_ADDRESS", f"{LOOPBACK}:{port}")
            system.start("relay" if name == "standby" else name)
            if name == "relay":
                wait_until(lambda: state_of(ports["relay"], "relay") == "active", 60, system.logs)
        records = story()
        publish_as_is(system.settings, records)
        wait_until(lambda: told(ports["worker"]) == len(records), 60, system.logs)
        with psycopg.connect(database) as connection:
            connection.execute("LOCK TABLE intake_position")  # the worker waits for it with the batch in its hands
            late = [ask(RecordSLIWindow(start=DAY, width_seconds=60, good=99, total=100), f"late-{number}") for number in range(LATE)]
            publish_as_is(system.settings, late)
            wait_until(lambda: lag(ports["worker"]) == LATE, 30, system.logs)
            held_up = scrape(ports["worker"])
        wait_until(lambda: told(ports["worker"]) == len(records) + LATE, 60, system.logs)
        system.wait_until_published()
        rows = system.count("outbox")
        wait_until(lambda: scrape(ports["relay"]).value("sre_domain_relay_rows_total") == rows, 30, system.logs)
        wait_until(lambda: scrape(ports["standby"]).value("sre_domain_relay_slot_lag_seconds") == 0, 30, system.logs)
        wait_until(lambda: state_of(ports["standby"], "relay") == "standing by", 30, system.logs)
        wait_until(lambda: lag(ports["worker"]) == 0, 30, system.logs)
        wait_until(lambda: len(spans) >= 6, 30, lambda: f"{spans} {system.logs()}")
        worker, relay, standby = (scrape(port) for port in ports.values())
        decided = {
            (outcome, code): count for outcome, code, count in query(database, "SELECT outcome, code, count(*) FROM inbox GROUP BY 1, 2")
        }
        system.end()
        logs = {path.stem: [json.loads(line) for line in path.read_text().splitlines()] for path in directory.glob("*.log")}
        yield Evidence(system, len(records) + LATE, rows, held_up, worker, relay, standby, spans, logs, decided)


def told(port: int) -> float:
    """How many records the worker has counted."""
    return sum(scrape(port).by("sre_domain_worker_intents_total", "type", "outcome").values())


def lag(port: int) -> float | None:
    return scrape(port).value("sre_domain_worker_consumer_lag_records", topic="sre.slo.intents.v1")


def state_of(port: int, service: str) -> str | None:
    return next((state for (state,) in scrape(port).by(f"sre_domain_{service}_state", "state")), None)


def test_every_record_is_counted_once_by_what_became_of_it(evidence: Evidence) -> None:
    counted = evidence.worker.by("sre_domain_worker_intents_total", "type", "outcome")
    assert counted == {
        ("CreateSLORequested", "accepted"): 1,
        ("CreateSLORequested", "duplicate"): 1,
        ("RecordSLIWindowRequested", "accepted"): 1,
        ("RecordSLIWindowRequested", "no_change"): 1 + LATE,
        ("RecordSLIWindowRequested", "rejected"): 2,
        ("unknown", "rejected"): len(HOSTILE),
    }
    by_outcome = {outcome: sum(value for (_, other), value in counted.items() if other == outcome) for _, outcome in counted}
    in_inbox = {
        outcome: sum(count for (other, _), count in evidence.decided.items() if other == outcome) for outcome, _ in evidence.decided
    }
    assert by_outcome == {
        "accepted": in_inbox["facts"],
        "no_change": in_inbox["no_change"],
        "rejected": in_inbox["rejected"],
        "duplicate": 1,
    }
    assert sum(counted.values()) == evidence.sent


def test_rejections_are_counted_by_their_codes(evidence: Evidence) -> None:
    counted = evidence.worker.by("sre_domain_worker_rejections_total", "code")
    assert counted == {(code,): count for (outcome, code), count in evidence.decided.items() if outcome == "rejected"}
    assert {code for (code,) in counted} == {"SCHEMA_INVALID", "TENANT_REQUIRED", "UNKNOWN_INTENT"}


def test_no_claimed_type_makes_a_label(evidence: Evidence) -> None:
    known = {name for aggregate in AGGREGATES.values() for name in aggregate.intents}
    assert {dict(labels)["type"] for labels in evidence.worker.labels("sre_domain_worker_intents_total")} == known | {"unknown"}
    assert "Made" not in evidence.worker.text


def test_no_metric_tells_of_tenants(evidence: Evidence) -> None:
    for text in (evidence.worker.text, evidence.relay.text):
        assert "acme" not in text
        assert "tenant=" not in text


def test_intents_that_only_a_warning_let_in_are_counted(evidence: Evidence) -> None:
    counted = evidence.worker.by("sre_domain_worker_unsigned_intents_total", "code")
    assert list(counted) == [("SIGNATURE_REQUIRED",)]
    assert counted["SIGNATURE_REQUIRED",] > 0


def test_batches_stages_and_ages_add_up(evidence: Evidence) -> None:
    worker = evidence.worker
    batches = worker.value("sre_domain_worker_batch_size_intents_count")
    assert worker.value("sre_domain_worker_batch_size_intents_sum") == evidence.sent
    for stage in ("receive", "find", "decide", "save"):
        assert worker.value("sre_domain_worker_batch_stage_duration_seconds_count", stage=stage) == batches
    assert worker.value("sre_domain_worker_intent_to_outcome_duration_seconds_count") == sum(evidence.decided.values())
    assert 0 < (worker.value("sre_domain_worker_intent_to_outcome_duration_seconds_sum") or 0) < 60 * evidence.sent


def test_a_worker_that_has_decided_all_has_no_lag(evidence: Evidence) -> None:
    worker = evidence.worker
    lags = {dict(labels)["topic"] for labels in worker.labels("sre_domain_worker_consumer_lag_records")}
    assert lags == {f"sre.{name}.intents.v1" for name in AGGREGATES}
    assert worker.by("sre_domain_worker_consumer_lag_records", "topic") == {}
    assert worker.value("sre_domain_worker_oldest_unacknowledged_intent_age_seconds") == 0
    assert worker.value("sre_domain_worker_state", state="active") == 1
    assert worker.by("sre_domain_worker_collector_success", "collector") == {("kafka",): 1, ("postgresql",): 1}
    assert (worker.value("sre_domain_worker_table_partitions_ahead", table="outbox") or 0) >= 6
    assert (worker.value("sre_domain_worker_table_partitions_ahead", table="inbox") or 0) >= 1


def test_what_is_held_up_is_lag_and_grows_old(evidence: Evidence) -> None:
    assert evidence.held_up.by("sre_domain_worker_consumer_lag_records", "topic") == {("sre.slo.intents.v1",): LATE}
    assert 0 < (evidence.held_up.value("sre_domain_worker_oldest_unacknowledged_intent_age_seconds") or 0) < 60
    assert evidence.held_up.value("sre_domain_worker_collector_success", collector="kafka") == 1


def test_the_relay_counts_what_the_outbox_has(evidence: Evidence) -> None:
    relay = evidence.relay
    rows = evidence.outbox_rows
    assert relay.value("sre_domain_relay_rows_total") == rows
    assert relay.value("sre_domain_relay_outbox_to_fact_duration_seconds_count") == rows
    assert 1 <= (relay.value("sre_domain_relay_groups_total") or 0) <= rows
    assert 0 < (relay.value("sre_domain_relay_outbox_to_fact_duration_seconds_sum") or 0) < 60 * rows


def test_the_watermark_is_the_one_in_kafka(evidence: Evidence) -> None:
    settings = evidence.system.settings
    committed = read_committed(librdkafka_config(settings), b"", 20)
    ours = [decode(value) for key, value in committed.items() if key.endswith(f"/{settings.relay_slot}".encode())]
    assert [evidence.relay.value("sre_domain_relay_watermark_lsn")] == [watermark.lsn for watermark in ours]
    assert evidence.standby.value("sre_domain_relay_watermark_lsn") is None


def test_active_and_standby_tell_what_they_are_and_both_how_the_slot_is(evidence: Evidence) -> None:
    for relay, state in ((evidence.relay, "active"), (evidence.standby, "standing by")):
        assert relay.by("sre_domain_relay_state", "state") == {(state,): 1}
        assert relay.value("sre_domain_relay_slot_lag_seconds") == 0
        assert 0 <= (relay.value("sre_domain_relay_slot_lag_bytes") or 0) < 2**24
        assert (relay.value("sre_domain_relay_slot_retained_wal_bytes") or 0) > 0
        assert relay.value("sre_domain_relay_collector_success", collector="postgresql") == 1
    assert evidence.standby.value("sre_domain_relay_rows_total") == 0


def test_a_trace_goes_from_the_intent_through_worker_and_relay_into_the_fact(evidence: Evidence) -> None:
    spans = {(span.service, span.trace_id): span for span in evidence.spans}
    created = SAMPLED["created"]
    decided, published = spans["sre-domain-worker", created], spans["sre-domain-relay", created]
    assert {(span.trace_id, span.parent_id, span.trace_state) for span in (decided, published)} == {(created, PARENT, "vendor=1")}
    assert (decided.name, published.name) == ("decide sre.slo.intents.v1", "publish sre.slo.facts.v1")
    assert decided.attributes["messaging.message.id"] == "created"
    assert published.attributes["sre_domain.causation.id"] == "created"
    assert decided.start_ns <= decided.end_ns
    assert published.start_ns <= published.end_ns
    facts = [dict(record.headers) for record in evidence.system.seen if dict(record.headers).get("ce_causationid") == b"created"]
    assert [fact["ce_traceparent"] for fact in facts] == [f"00-{created}-{PARENT}-01".encode()]
    assert [fact["ce_tracestate"] for fact in facts] == [b"vendor=1"]
    assert published.attributes["messaging.message.id"].encode() == facts[0]["ce_id"]


def test_only_sampled_intents_have_spans_and_each_says_what_became_of_it(evidence: Evidence) -> None:
    told = sorted((span.service, span.trace_id, span.attributes.get("sre_domain.outcome")) for span in evidence.spans)
    worker = [
        ("sre-domain-worker", SAMPLED["created"], "accepted"),
        ("sre-domain-worker", SAMPLED["created"], "duplicate"),
        ("sre-domain-worker", SAMPLED["again"], "no_change"),
        ("sre-domain-worker", SAMPLED["refused"], "rejected"),
    ]
    relay = [("sre-domain-relay", SAMPLED[name], None) for name in ("created", "refused")]
    assert told == sorted([*worker, *relay], key=str)


def test_logs_are_json_and_name_the_intents_of_a_batch_in_one_line(evidence: Evidence) -> None:
    lines = [line for line in evidence.logs["worker"] if line["logger"] == "worker.telemetry.batch_line"]
    assert len(lines) == evidence.worker.value("sre_domain_worker_batch_size_intents_count")
    ids = [name for line in lines for name in line.get("intent_ids", [line.get("intent_id")])]
    assert len(ids) == evidence.sent
    assert {"created", "window", "again", "refused"} < set(ids)
    traces = {trace for line in lines for trace in line.get("trace_ids", [line.get("trace_id")])}
    assert {*SAMPLED.values(), NOT_SAMPLED} <= traces
    assert any("relaying from slot" in line["message"] for line in evidence.logs["relay"])


def test_dashboard_and_alerts_ask_for_what_is_told(evidence: Evidence) -> None:
    told = {family for one in (evidence.worker, evidence.relay) for family in one.families} | {UNLIMITED}
    assert {name.removesuffix("_total") for name in asked_for_by_dashboard_and_alerts()} <= {name.removesuffix("_total") for name in told}
