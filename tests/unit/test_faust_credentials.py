"""Tokens for aiokafka: one for all connections, renewed in time, and no secret in what is said where there is none."""

from __future__ import annotations

import asyncio
from functools import wraps
from typing import TYPE_CHECKING

import pytest
from aiokafka.errors import KafkaConnectionError
from confluent_kafka.admin import AdminClient

from tests.support.certificates import Authority
from tests.support.oidc import TokenEndpoint
from tests.support.system import wait_until
from worker.faust_credentials import ClientCredentials
from worker.kafka_config import librdkafka_config
from worker.settings import KafkaSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

SECRET = "TOPSECRET: a+b/c"  # noqa: S105 - of an endpoint that lives as long as a test


def in_a_loop(scenario: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    @wraps(scenario)
    def test(*given: object, **fixtures: object) -> None:
        asyncio.run(scenario(*given, **fixtures))

    return test


@pytest.fixture
def endpoint() -> Iterator[TokenEndpoint]:
    endpoint = TokenEndpoint({"worker": SECRET})
    with endpoint.serving():
        yield endpoint


def provider(url: str, **changes: object) -> ClientCredentials:
    return ClientCredentials(settings(url, **changes))


def settings(url: str, **changes: object) -> KafkaSettings:
    given: dict[str, object] = {
        "kafka_bootstrap_servers": "kafka.example:9093",
        "kafka_security_protocol": "SASL_SSL",
        "kafka_sasl_mechanism": "OAUTHBEARER",
        "kafka_oauth_token_url": url,
        "kafka_oauth_client_id": "worker",
        "kafka_oauth_client_secret": SECRET,
        "kafka_oauth_scope": "kafka",
    }
    return KafkaSettings(**{**given, **changes})  # type: ignore[arg-type]


@in_a_loop
async def test_connections_that_begin_together_share_one_token(endpoint: TokenEndpoint) -> None:
    tokens = provider(endpoint.url)
    assert len(set(await asyncio.gather(*(tokens.token() for _ in range(5))))) == 1
    assert endpoint.issued["worker"] == 1
    assert endpoint.scopes == {"kafka"}


@in_a_loop
async def test_librdkafka_shows_the_same_login(endpoint: TokenEndpoint) -> None:
    admin = AdminClient(librdkafka_config(settings(endpoint.url)))
    wait_until(lambda: endpoint.issued["worker"] == 1, 20, lambda: "librdkafka was given no token")
    assert endpoint.scopes == {"kafka"}
    del admin  # until now it was needed for its threads


@in_a_loop
async def test_a_token_is_renewed_before_it_expires(endpoint: TokenEndpoint) -> None:
    tokens = provider(endpoint.url)
    endpoint.life_seconds = 0.05
    first = await tokens.token()
    await asyncio.sleep(0.8 * 0.05)
    assert await tokens.token() != first


@in_a_loop
async def test_a_refusal_is_one_line_and_asked_about_again(endpoint: TokenEndpoint) -> None:
    tokens = provider(endpoint.url)
    endpoint.secrets = {"worker": "another"}
    with pytest.raises(KafkaConnectionError, match=r"no token from http://127\.0\.0\.1:\d+/token: it answers 401$") as refused:
        await tokens.token()
    assert SECRET not in f"{refused.value!r}"
    assert refused.value.__cause__ is None
    endpoint.secrets = {"worker": SECRET}
    assert await tokens.token()


@pytest.mark.parametrize(
    "answer", [{}, [], "t", {"access_token": ""}, {"access_token": 1}, {"access_token": "TOPSECRET", "expires_in": "x"}]
)
@in_a_loop
async def test_an_answer_without_a_token_is_none(endpoint: TokenEndpoint, monkeypatch: pytest.MonkeyPatch, answer: object) -> None:
    monkeypatch.setattr(endpoint, "answer", lambda *_: (200, answer))
    with pytest.raises(KafkaConnectionError, match=r"its answer holds no access_token$"):
        await provider(endpoint.url).token()


@in_a_loop
async def test_a_redirect_is_not_followed_with_the_secret(endpoint: TokenEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "answer", lambda *_: (302, {}))
    with pytest.raises(KafkaConnectionError, match=r"it answers 302$"):
        await provider(endpoint.url).token()


@in_a_loop
async def test_an_endpoint_that_is_away_is_one_line() -> None:
    with pytest.raises(KafkaConnectionError, match=r"no token from http://127.0.0.1:1/token: [^\n]+$"):
        await provider("http://127.0.0.1:1/token").token()


@in_a_loop
async def test_the_endpoint_has_to_be_the_one_that_its_certificate_names(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    endpoint = TokenEndpoint({"worker": SECRET}, authority.server_context("127.0.0.1"))
    with endpoint.serving():
        assert await provider(endpoint.url, kafka_oauth_ca_file=str(authority.ca)).token()
        for url, ca in ((endpoint.url, other.ca), (endpoint.url.replace("127.0.0.1", "localhost"), authority.ca)):
            with pytest.raises(KafkaConnectionError, match=r"[Cc]ertificate"):
                await provider(url, kafka_oauth_ca_file=str(ca)).token()
    assert endpoint.issued["worker"] == 1
