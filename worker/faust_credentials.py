"""How the settings read to Faust, and so to aiokafka: the login, the TLS context, and OAuth tokens."""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import faust
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError
from faust.auth import OAuthCredentials
from pydantic import BaseModel, Field, PositiveFloat, ValidationError

if TYPE_CHECKING:
    from worker.settings import KafkaSettings

_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)
_RENEWED_AFTER: Final = 0.8  # of a token's life, as librdkafka does
_HTTP_OK: Final = 200


def credentials(settings: KafkaSettings) -> Any | None:  # noqa: ANN401 - Faust is untyped
    """None where nothing is encrypted and nobody logs in. Raises ssl.SSLError where a file is none that belongs there."""
    context = _tls(settings) if settings.kafka_security_protocol.endswith("SSL") else None
    if not settings.kafka_security_protocol.startswith("SASL"):
        return None if context is None else faust.SSLCredentials(context=context)
    if settings.kafka_sasl_mechanism == "OAUTHBEARER":
        return OAuthCredentials(oauth_cb=ClientCredentials(settings), ssl_context=context)
    password = settings.kafka_sasl_password
    return faust.SASLCredentials(
        mechanism=settings.kafka_sasl_mechanism,
        username=settings.kafka_sasl_username,
        password=None if password is None else password.get_secret_value(),
        ssl_context=context,
    )


def _tls(settings: KafkaSettings) -> ssl.SSLContext:
    """Verifies the broker's certificate and its host name, always."""
    context = ssl.create_default_context(cafile=settings.kafka_ssl_ca_file)
    if settings.kafka_ssl_certificate_file is not None:
        password = settings.kafka_ssl_key_password
        context.load_cert_chain(
            settings.kafka_ssl_certificate_file,
            settings.kafka_ssl_key_file,
            # Never None, for which OpenSSL would ask at the terminal.
            "" if password is None else password.get_secret_value(),
        )
    return context


class ClientCredentials(AbstractTokenProvider):  # type: ignore[misc]
    """OAuth 2.0 client credentials (RFC 6749, section 4.4): one token for all connections, until shortly before it expires."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._token = ""
        self._renewed_at = -math.inf
        self._asking = asyncio.Lock()

    async def token(self) -> str:
        """Raises KafkaConnectionError where there is none to be had, after which aiokafka tries again."""
        async with self._asking:
            if time.monotonic() >= self._renewed_at:
                try:
                    answer = await _fetch_token(self._settings)
                except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                    why = str(error) or type(error).__name__
                    raise KafkaConnectionError(f"no token from {self._settings.kafka_oauth_token_url}: {why}") from None
                self._token, self._renewed_at = answer.access_token, time.monotonic() + answer.expires_in * _RENEWED_AFTER
            return self._token


class _Answer(BaseModel):
    """Of a token endpoint (RFC 6749, section 5.1)."""

    access_token: str = Field(min_length=1)
    expires_in: PositiveFloat = 300  # seconds; may be left out


async def _fetch_token(settings: KafkaSettings) -> _Answer:
    """Raises aiohttp.ClientError, TimeoutError, and ValueError for an answer that holds no token."""
    form = {"grant_type": "client_credentials"} | ({"scope": settings.kafka_oauth_scope} if settings.kafka_oauth_scope else {})
    secret = settings.kafka_oauth_client_secret
    login = f"{settings.kafka_oauth_client_id}:{secret.get_secret_value() if secret else ''}"  # as it is, as librdkafka shows it
    headers = {"Authorization": f"Basic {b64encode(login.encode()).decode()}"}
    context = ssl.create_default_context(cafile=settings.kafka_oauth_ca_file)
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        asked = session.post(settings.kafka_oauth_token_url or "", data=form, headers=headers, ssl=context, allow_redirects=False)
        async with asked as response:
            if response.status != _HTTP_OK:
                raise ValueError(f"it answers {response.status}")
            answer = await response.read()
    try:
        return _Answer.model_validate_json(answer)
    except ValidationError:
        raise ValueError("its answer holds no access_token") from None
