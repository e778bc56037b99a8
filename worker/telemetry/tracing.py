"""Spans for an OTLP receiver, of intents whose traceparent says that they are sampled; all others cost a look at that header.

The spans are made when their work is done, so that nothing of OpenTelemetry is in its way. The parent of each is the span that the
intent names: facts carry the intent's headers as they came (docs/contract.md), and so the trace goes on at whoever reads them.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

from worker.domain.rejection import RejectionCode
from worker.envelope import Trace, salvage
from worker.errors import WorkerError
from worker.receiving import Refused, Unread
from worker.telemetry.outcomes import outcome_of, rows_of
from worker.trace_context import is_sampled, traceparent_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.trace import Span, SpanKind, Tracer

    from worker.pipeline import Batch
    from worker.receiving import Received
    from worker.relay.record import Record
    from worker.relay.relay import Group

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_EXPORTER: Final = "OTEL_TRACES_EXPORTER"
_CLOSE_SECONDS: Final = 2.0  # a worker has ten to stop in, and a receiver may be away
_NS: Final = 1_000_000_000
_POSTGRES_EPOCH_US: Final = 946_684_800_000_000  # 2000-01-01 UTC


class TracingError(WorkerError):
    """Traces are to be exported and can't be: packages are missing, or an OTEL_ variable is wrong."""


def is_wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether OpenTelemetry's own variables name a receiver. Raises TracingError for an exporter that is not here."""
    exporter = environment.get(_EXPORTER, "").strip()
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter == "none":
        return False
    if exporter not in {"", "otlp"}:
        raise TracingError(f"{_EXPORTER}: must be otlp or none")
    return exporter == "otlp" or any(environment.get(name) for name in _ENDPOINTS)


@contextmanager
def tracing(service: str) -> Iterator[Spans | None]:
    """None where no traces are wanted. What is not sent within two seconds at the end is not sent."""
    if not is_wanted():
        yield None
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - half a second, and few export
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise TracingError(f"traces are to be exported and {error.name} is missing: install sre-domain[otel]") from error
    try:
        named = {"service.name": service, **OTELResourceDetector().detect().attributes}
        provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except ValueError as error:
        raise TracingError(f"traces can't be exported with these OTEL_ variables: {error}") from error
    try:
        yield Spans(provider.get_tracer("sre-domain"))
    finally:
        closing = Thread(target=provider.shutdown, name="tracing-end", daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)


class Spans:
    """Ended as they are made: what they tell of has happened."""

    def __init__(self, tracer: Tracer) -> None:
        from opentelemetry.trace import SpanKind, StatusCode  # noqa: PLC0415 - imported by now
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        self._tracer, self._propagator = tracer, TraceContextTextMapPropagator()
        self._consumer, self._producer, self._fault = SpanKind.CONSUMER, SpanKind.PRODUCER, StatusCode.ERROR

    def tell_batch(self, batch: Batch) -> None:
        """A span for each sampled intent, from the beginning of its batch to the commit."""
        traced = [(item, row) for item, row in zip(batch.received, rows_of(batch), strict=True) if is_sampled(_traceparent(item))]
        if not traced:
            return
        end = time.time_ns()
        start = end - round(sum(batch.stage_seconds.values()) * _NS)
        shared = {
            "messaging.system": "kafka",
            "messaging.operation.name": "decide",
            "messaging.operation.type": "process",
            "messaging.destination.name": batch.topic,
            "messaging.batch.message_count": len(batch.received),
            **{f"sre_domain.{stage}.seconds": seconds for stage, seconds in batch.stage_seconds.items()},
        }
        for item, row in traced:
            record, code = item.record, None if row is None else row.code
            about = salvage(record) if isinstance(item.verdict, Refused | Unread) else item.verdict.envelope
            own = {
                "messaging.destination.partition.id": str(record.partition),
                "messaging.kafka.offset": record.offset,
                "messaging.message.id": about.intent_id,
                "sre_domain.tenant.id": about.tenant_id,
                "sre_domain.outcome": outcome_of(row),
                "sre_domain.rejection.code": code,
            }
            with self._span(f"decide {batch.topic}", self._consumer, about.trace, (start, end), {**shared, **own}) as span:
                if code == RejectionCode.INTERNAL_ERROR:
                    span.set_status(self._fault)

    def is_traced(self, record: Record) -> bool:
        for name, value in record.headers:  # half the cost of a dict of them
            if name == "ce_traceparent":
                return is_sampled(_text(value))
        return False

    def tell_group(self, group: Group) -> None:
        """A span for each fact or rejection of a sampled intent, from its commit in PostgreSQL to the one in Kafka."""
        end = time.time_ns()
        for committed_us, record in group.traced:
            headers = {name: _text(value) for name, value in record.headers}
            attributes = {
                "messaging.system": "kafka",
                "messaging.operation.name": "publish",
                "messaging.operation.type": "send",
                "messaging.destination.name": record.topic,
                "messaging.destination.partition.id": str(record.partition),
                "messaging.batch.message_count": group.rows,
                "messaging.message.id": headers["ce_id"],
                "sre_domain.type": headers["ce_type"],
                "sre_domain.tenant.id": headers.get("ce_tenantid"),
                "sre_domain.causation.id": headers.get("ce_causationid"),
            }
            trace = Trace(None, headers["ce_traceparent"], headers.get("ce_tracestate"))
            start = min(end, (committed_us + _POSTGRES_EPOCH_US) * 1000)
            with self._span(f"publish {record.topic}", self._producer, trace, (start, end), attributes):
                pass

    @contextmanager
    def _span(self, name: str, kind: SpanKind, trace: Trace, times_ns: tuple[int, int], attributes: Mapping[str, Any]) -> Iterator[Span]:
        carrier = {"traceparent": trace.traceparent or ""} | ({} if trace.tracestate is None else {"tracestate": trace.tracestate})
        context = self._propagator.extract(carrier)
        present = {key: value for key, value in attributes.items() if value is not None}
        span = self._tracer.start_span(name, context, kind, present, start_time=times_ns[0])
        yield span
        span.end(times_ns[1])


def _traceparent(item: Received) -> str | None:
    verdict = item.verdict
    return traceparent_of(item.record) if isinstance(verdict, Refused | Unread) else verdict.envelope.trace.traceparent


def _text(value: str | bytes | None) -> str | None:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
