"""An OTLP receiver: takes what an exporter posts over HTTP and keeps the spans."""

from __future__ import annotations

import gzip
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from worker.devstack.processes import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Iterator


class ReceivedSpan(NamedTuple):
    """Ids in hex, as in a traceparent; times in nanoseconds since 1970."""

    service: str
    name: str
    trace_id: str
    parent_id: str
    trace_state: str
    kind: int
    status: int
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]


@contextmanager
def receiving_spans() -> Iterator[tuple[str, list[ReceivedSpan]]]:
    """The endpoint, and the spans as they come."""
    spans: list[ReceivedSpan] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.path == "/v1/traces"
            spans.extend(_spans(ExportTraceServiceRequest.FromString(body)))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """What comes is looked at by the test."""

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}", spans
    finally:
        server.shutdown()
        server.server_close()


def _spans(request: ExportTraceServiceRequest) -> Iterator[ReceivedSpan]:
    for resource in request.resource_spans:
        service = str(_values(resource.resource.attributes)["service.name"])
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield ReceivedSpan(
                    service,
                    span.name,
                    span.trace_id.hex(),
                    span.parent_span_id.hex(),
                    span.trace_state,
                    span.kind,
                    span.status.code,
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    _values(span.attributes),
                )


def _values(attributes: Any) -> dict[str, Any]:  # noqa: ANN401 - a repeated field
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in attributes}
