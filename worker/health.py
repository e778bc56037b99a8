"""What a service tells over HTTP: /livez and /readyz, 200 or 503 with the reasons as JSON, and /metrics."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import TYPE_CHECKING, Final, TypeVar

from worker.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Scrape = Callable[[], tuple[str, bytes]]

_FRESH_SECONDS: Final = 1.0  # a check may ask a database: however many probes come, it is made once in so long
_CLIENT_SECONDS: Final = 5.0

Answer = TypeVar("Answer")


class HealthAddressError(WorkerError):
    """Probes can't be answered at SRE_HEALTH_ADDRESS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """In order where there is no reason against it; `state` is what the process does, as `active` or `standing by`."""

    state: str
    reasons: tuple[str, ...] = ()


@contextmanager
def serve_health(
    address: str | None, live: Callable[[], Check], ready: Callable[[], Check], metrics: Scrape | None = None
) -> Iterator[None]:
    """Answer at `host:port` (no host: every interface) from threads of its own, so that a blocked event loop can't hide; None: don't.

    `metrics` gives a content type and a body. Raises HealthAddressError where the address can't be listened on.
    """
    if address is None:
        yield
        return
    host, _, port = address.rpartition(":")
    checks = {"/livez": seldom(live), "/readyz": seldom(ready)}
    try:
        server = _Server((host, int(port)), _handler(checks, metrics))
    except OSError as error:
        raise HealthAddressError(f"SRE_HEALTH_ADDRESS: can't listen on {address}: {error.strerror}") from error
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="health", daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A probe that hangs up is no concern of ours."""


def _handler(checks: Mapping[str, Callable[[], Check]], metrics: Scrape | None) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _CLIENT_SECONDS

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if metrics is not None and path == "/metrics":
                content_type, body = metrics()
                self._answer(200, content_type, body)
            elif path in checks:
                found = checks[path]()
                body = json.dumps({"state": found.state, "reasons": found.reasons}).encode() + b"\n"
                self._answer(503 if found.reasons else 200, "application/json", body)
            else:
                self.send_error(404)

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Probes come every few seconds."""

    return Handler


def seldom(ask: Callable[[], Answer]) -> Callable[[], Answer]:
    """The answer that is not a second old, however many ask."""
    lock = Lock()
    last: tuple[float, Answer] | None = None

    def recent() -> Answer:
        nonlocal last
        with lock:
            if last is None or time.monotonic() - last[0] > _FRESH_SECONDS:
                last = (time.monotonic(), ask())
            return last[1]

    return recent
