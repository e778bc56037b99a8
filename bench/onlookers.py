"""Who looks at a worker and a relay while they are measured: a scraper a second, and a receiver of spans that keeps none."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import TYPE_CHECKING
from urllib.request import urlopen

from worker.devstack.processes import LOOPBACK, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCRAPE_SECONDS = 1.0


@contextmanager
def looked_at() -> Iterator[dict[str, dict[str, str]]]:
    """What the environment of each process says, so that it tells all that it can."""
    receiver, over = ThreadingHTTPServer((LOOPBACK, 0), _Receiver), Event()
    receiver.daemon_threads = True
    ports = {name: free_port() for name in ("worker", "relay")}
    threads = [Thread(target=receiver.serve_forever, daemon=True), Thread(target=_scrape, args=(list(ports.values()), over), daemon=True)]
    for thread in threads:
        thread.start()
    shared = {"SRE_LOG_FORMAT": "json", "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{LOOPBACK}:{receiver.server_port}"}
    try:
        yield {name: {**shared, "SRE_HEALTH_ADDRESS": f"{LOOPBACK}:{port}"} for name, port in ports.items()}
    finally:
        over.set()
        receiver.shutdown()
        receiver.server_close()


class _Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


def _scrape(ports: list[int], over: Event) -> None:
    while not over.wait(_SCRAPE_SECONDS):
        for port in ports:
            with suppress(OSError), urlopen(f"http://{LOOPBACK}:{port}/metrics", timeout=5) as answer:
                answer.read()
