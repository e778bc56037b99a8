"""The spans of intents whose traceparent says that they are sampled; all others cost a look at that header.

They are made when their work is done, so that nothing of OpenTelemetry is in its way. The parent of each is the span that the
intent names: facts carry the intent's headers as they came (docs/contract.md), and so the trace goes on at whoever reads them.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from worker.domain.rejection import RejectionCode
from worker.envelope import Trace, salvage
from worker.receiving import Refused, Unread
from worker.telemetry.outcomes import outcome_of, rows_of
from worker.trace_context import is_sampled, traceparent_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.trace import Span, Tracer

    from worker.pipeline import Batch
    from worker.receiving import Received
    from worker.relay.record import Record
    from worker.relay.relay import Group

_NS: Final = 1_000_000_000
_POSTGRES_EPOCH_US: Final = 946_684_800_000_000  # 2000-01-01 UTC


class Spans:
    """Ended as they are made: what they tell of has happened."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer, self._propagator = tracer, TraceContextTextMapPropagator()

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
            with self._span(f"decide {batch.topic}", SpanKind.CONSUMER, about.trace, (start, end), {**shared, **own}) as span:
                if code == RejectionCode.INTERNAL_ERROR:
                    span.set_status(StatusCode.ERROR)

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
            with self._span(f"publish {record.topic}", SpanKind.PRODUCER, trace, (start, end), attributes):
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
