"""A token endpoint: client credentials in, a signed JWT out, and the key that verifies it."""

from __future__ import annotations

import base64
import json
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs
from uuid import uuid4

from joserfc import jwt
from joserfc.jwk import RSAKey

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping

AUDIENCE = "kafka"


class TokenEndpoint:
    """`secrets` has the clients; a token's subject is the client's id. `issued` counts their tokens, `scopes` has what was asked for."""

    def __init__(self, secrets: Mapping[str, str], tls: ssl.SSLContext | None = None) -> None:
        self.secrets = secrets
        self.life_seconds: float = 300
        self.issued: Counter[str] = Counter()
        self.scopes: set[str] = set()
        self._key = RSAKey.generate_key(2048, {"kid": "test", "use": "sig", "alg": "RS256"})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._scheme = "http" if tls is None else "https"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)

    @property
    def base(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        return f"{self.base}/token"

    @property
    def keys_url(self) -> str:
        return f"{self.base}/keys"

    def keys(self) -> dict[str, Any]:
        return {"keys": [dict(self._key.as_dict(private=False))]}

    def answer(self, authorization: str, form: Mapping[str, list[str]]) -> tuple[int, dict[str, Any]]:
        client, _, secret = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        if form.get("grant_type") != ["client_credentials"]:
            return 400, {"error": "unsupported_grant_type"}
        if self.secrets.get(client) != secret:
            return 401, {"error": "invalid_client"}
        self.issued[client] += 1
        self.scopes |= set(form.get("scope", []))
        now = int(time.time())
        about = {"iss": self.base, "sub": client, "aud": AUDIENCE, "scope": "kafka"}
        claims = about | {"iat": now, "exp": now + self.life_seconds, "jti": str(uuid4())}
        token = jwt.encode({"alg": "RS256", "kid": "test"}, claims, self._key)
        return 200, {"access_token": token, "token_type": "Bearer", "expires_in": self.life_seconds}

    @contextmanager
    def serving(self) -> Iterator[None]:
        thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


def _handler_of(endpoint: TokenEndpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, endpoint.keys())

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self._send(*endpoint.answer(self.headers.get("Authorization", ""), form))

        def _send(self, status: int, answer: object) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
