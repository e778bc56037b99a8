"""Whether and where spans are exported: to an OTLP receiver, by the variables that OpenTelemetry has for it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING, Final

from worker.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from worker.telemetry.spans import Spans

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_EXPORTER: Final = "OTEL_TRACES_EXPORTER"
_CLOSE_SECONDS: Final = 2.0  # a worker has ten to stop in, and a receiver may be away


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

        from worker.telemetry.spans import Spans  # noqa: PLC0415 - it knows what was decided, of which a relay knows nothing
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
