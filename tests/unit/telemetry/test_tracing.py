"""Which traces are exported, to a receiver that takes them, that is away, and that is none."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.batches import batch_of
from tests.support.otlp import ReceivedSpan, receiving_spans
from tests.support.records import Topic, create
from worker.devstack.processes import LOOPBACK, free_port
from worker.relay.record import Record as OutboxRecord
from worker.relay.relay import Group
from worker.telemetry.tracing import TracingError, is_wanted, tracing
from worker.trace_context import is_sampled, trace_id_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.envelope import Record

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{PARENT}-01"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ReceivedSpan]]:
    with receiving_spans() as (endpoint, spans):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        yield spans


def traced(record: Record, traceparent: str | bytes, tracestate: bytes | None = None) -> Record:
    value = traceparent.encode() if isinstance(traceparent, str) else traceparent
    more = [] if tracestate is None else [("ce_tracestate", tracestate)]
    return record._replace(headers=[*record.headers, ("ce_traceparent", value), *more])


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, False),
    ],
)
def test_traces_are_exported_where_a_receiver_is_named(variables: dict[str, str], wanted: bool) -> None:  # noqa: FBT001
    assert is_wanted(variables) is wanted


def test_an_exporter_that_is_not_here_is_one_line() -> None:
    with pytest.raises(TracingError, match="OTEL_TRACES_EXPORTER: must be otlp or none"):
        is_wanted({"OTEL_TRACES_EXPORTER": "zipkin"})


@pytest.mark.parametrize(
    ("traceparent", "trace_id", "sampled"),
    [
        (SAMPLED, TRACE, True),
        (f"00-{TRACE}-{PARENT}-00", TRACE, False),
        (f"00-{TRACE}-{PARENT}-03", TRACE, True),
        (f"cc-{TRACE}-{PARENT}-01", TRACE, True),
        (f"ff-{TRACE}-{PARENT}-01", None, False),
        (f"00-{TRACE.upper()}-{PARENT}-01", None, False),
        (f"00-{'0' * 32}-{PARENT}-01", None, False),
        (f"00-{TRACE}-{'0' * 16}-01", None, False),
        (f"00-{TRACE}-{PARENT}-01\n", None, False),
        (f"00-{TRACE}-{PARENT}-01-what", None, False),
        (f"00-{TRACE}-{PARENT}", None, False),
        ("", None, False),
        (None, None, False),
    ],
)
def test_a_traceparent_is_one_or_nothing(traceparent: str | None, trace_id: str | None, sampled: bool) -> None:  # noqa: FBT001
    assert (trace_id_of(traceparent), is_sampled(traceparent)) == (trace_id, sampled)


def test_a_span_tells_of_its_intent_alone(received: list[ReceivedSpan]) -> None:
    topic = Topic()
    decided = [
        (topic.append(create(), intent_id="plain"), "facts"),
        (traced(topic.append(create(), intent_id="quiet"), f"00-{TRACE}-{PARENT}-00"), "facts"),
        (traced(topic.append(create(), intent_id="one"), SAMPLED, b"vendor=1"), "facts"),
        (traced(topic.append(create(), intent_id="ours"), SAMPLED), "INTERNAL_ERROR"),
        (traced(topic.append(create())._replace(value=None), SAMPLED), "SCHEMA_INVALID"),
    ]
    with tracing("sre-domain-worker") as spans:
        assert spans is not None
        spans.tell_batch(batch_of(decided))
    assert {(span.trace_id, span.parent_id, span.service) for span in received} == {(TRACE, PARENT, "sre-domain-worker")}
    told = [(span.attributes["sre_domain.outcome"], span.attributes.get("sre_domain.rejection.code"), span.status) for span in received]
    assert told == [("accepted", None, 0), ("rejected", "INTERNAL_ERROR", 2), ("rejected", "SCHEMA_INVALID", 0)]
    first = received[0]
    assert (first.attributes["messaging.message.id"], first.attributes["sre_domain.tenant.id"], first.trace_state) == (
        "one",
        "acme",
        "vendor=1",
    )
    assert first.end_ns - first.start_ns == 10_000_000
    assert first.attributes["sre_domain.save.seconds"] == 0.004


@pytest.mark.parametrize("tracestate", [b"\xff", b"=,=,=", b"a" * 2_000, b",".join(b"k%d=v" % number for number in range(40)), b"a=\x00"])
def test_garbage_for_a_tracestate_costs_the_tracestate(received: list[ReceivedSpan], tracestate: bytes) -> None:
    with tracing("sre-domain-worker") as spans:
        assert spans is not None
        spans.tell_batch(batch_of([(traced(Topic().append(create()), SAMPLED, tracestate), "facts")]))
    assert [(span.trace_id, span.trace_state) for span in received] == [(TRACE, "")]


@pytest.mark.parametrize("value", [b"\xff" * 55, b"garbage", b"", SAMPLED.encode() + b"\x00"])
def test_garbage_for_a_traceparent_makes_no_span(received: list[ReceivedSpan], value: bytes) -> None:
    with tracing("sre-domain-worker") as spans:
        assert spans is not None
        spans.tell_batch(batch_of([(traced(Topic().append(create()), value), "facts")]))
        assert not spans.is_traced(OutboxRecord("topic", 0, None, b"", [("ce_traceparent", value)]))
    assert received == []


def test_the_relay_tells_of_a_fact_under_the_same_parent(received: list[ReceivedSpan]) -> None:
    headers = [("ce_id", b"fact"), ("ce_type", b"sre.core.v1.SLOCreated"), ("ce_traceparent", SAMPLED.encode()), ("ce_causationid", b"one")]
    record = OutboxRecord("sre.slo.facts.v1", 3, None, b"", list(headers))
    with tracing("sre-domain-relay") as spans:
        assert spans is not None
        assert spans.is_traced(record)
        spans.tell_group(Group(2, 1, 2, [(0, 2)], [(0, record)]))
    [span] = received
    assert (span.name, span.trace_id, span.parent_id) == ("publish sre.slo.facts.v1", TRACE, PARENT)
    assert span.attributes["sre_domain.causation.id"] == "one"
    assert span.start_ns == 946_684_800 * 10**9


def test_what_the_environment_says_of_the_service_holds(received: list[ReceivedSpan], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "sre-eu")
    with tracing("sre-domain-worker") as spans:
        assert spans is not None
        spans.tell_batch(batch_of([(traced(Topic().append(create()), SAMPLED), "facts")]))
    assert [span.service for span in received] == ["sre-eu"]


def test_a_receiver_that_is_away_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{LOOPBACK}:{free_port()}")
    with tracing("sre-domain-worker") as spans:
        assert spans is not None
        spans.tell_batch(batch_of([(traced(Topic().append(create()), SAMPLED), "facts")] * 3_000))


def test_a_variable_that_opentelemetry_refuses_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    with pytest.raises(TracingError, match="OTEL_"), tracing("sre-domain-worker"):
        pass


def test_packages_that_are_missing_are_one_line_that_says_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(TracingError, match=r"trace_exporter is missing: install sre-domain\[otel\]"), tracing("sre-domain-worker"):
        pass


def test_an_operator_can_limit_what_producers_have_sampled(received: list[ReceivedSpan], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    with tracing("sre-domain-worker") as spans:
        assert spans is not None
        spans.tell_batch(batch_of([(traced(Topic().append(create()), SAMPLED), "INTERNAL_ERROR")]))
    assert received == []
