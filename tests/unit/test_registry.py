"""The registry's HTTP answers as the codec needs them: the text by id, KeyError for none, and something to wait for when it is away."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from worker.recovery import is_outage
from worker.registry import RegistryAwayError, writer_of_id

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = json.dumps({"type": "record", "name": "A", "namespace": "x", "fields": []})


@contextmanager
def registry(asked: list[str]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            found = self.path.startswith("/schemas/ids/7")
            body = json.dumps({"schema": SCHEMA} if found else {"error_code": 40403, "message": "Schema not found"}).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_schema_is_looked_up_once_and_kept_when_the_registry_goes() -> None:
    asked: list[str] = []
    with registry(asked) as url:
        schema_text = writer_of_id(url)
        assert json.loads(schema_text(7)) == json.loads(SCHEMA)
        assert schema_text(7) == schema_text(7)
        assert len(asked) == 1
        with pytest.raises(KeyError):
            schema_text(8)
    assert json.loads(schema_text(7)) == json.loads(SCHEMA)
    with pytest.raises(RegistryAwayError) as away:
        schema_text(9)
    assert is_outage(away.value), "the worker waits for it and rejects nothing"
