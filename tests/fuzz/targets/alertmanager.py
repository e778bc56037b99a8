"""A notification of Alertmanager's, through the bridge's own request handler: an answer, and intents that the worker decides on.

Input: a byte that says how the body comes (0: as it is, 1: as gzip, 2: as deflate, 3: with a wrong token), then the body.
"""

from __future__ import annotations

import asyncio
import atexit
from functools import cache
from typing import TYPE_CHECKING, Final

from aiohttp.test_utils import TestClient, TestServer

from tests.fuzz.oracles import verdict_of
from tests.support.records import CODEC, NOW
from tests.support.webhook import firing, resolved, webhook
from worker.client import IntentInvalidError, to_outgoing
from worker.envelope import Record
from worker.integrations.alertmanager_bridge import bridge_app
from worker.intents import to_valid_outgoing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aiohttp import web

    from worker.client import Intent

    Client = TestClient[web.Request, web.Application]

_TOKEN: Final = "t"  # noqa: S105 - protects nothing
_ENCODINGS: Final[tuple[dict[str, str], ...]] = (
    {},
    {"Content-Encoding": "gzip"},
    {"Content-Encoding": "deflate"},
    {"Authorization": "Bearer wrong\udcff"},
)
_ANSWERS: Final = (200, 400, 413)
_LOOP: Final = asyncio.new_event_loop()


def check(data: bytes) -> None:
    if data:
        _LOOP.run_until_complete(_send(_client(), data[0] % len(_ENCODINGS), data[1:]))


async def _send(client: Client, kind: int, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {_TOKEN}", **_ENCODINGS[kind]}
    async with client.post("/", data=body, headers=headers) as answer:
        status = answer.status
        said = await answer.json() if answer.content_type == "application/json" else {}
    if kind == len(_ENCODINGS) - 1:
        assert status == 401
        return
    assert status in _ANSWERS, status
    assert status != _ANSWERS[0] or said["accepted"] >= 0


async def _publish(intents: Sequence[Intent]) -> None:
    """As the bridge does it, with a worker in the place of Kafka."""
    for intent in intents:
        try:
            outgoing = to_valid_outgoing(intent, CODEC)
        except IntentInvalidError:
            outgoing = to_outgoing(intent, CODEC)
        verdict_of(Record(outgoing.topic, 0, 0, int(NOW.timestamp() * 1000), outgoing.key, outgoing.value, outgoing.headers))


@cache
def _client() -> Client:
    async def start() -> Client:
        client: Client = TestClient(TestServer(bridge_app("acme", _TOKEN, _publish)))
        await client.start_server()
        return client

    client = _LOOP.run_until_complete(start())
    atexit.register(lambda: _LOOP.run_until_complete(client.close()))
    return client


def seeds() -> Iterator[bytes]:
    yield b"\x00" + webhook(firing(NOW))
    yield b"\x00" + webhook(resolved(NOW, NOW), firing(NOW, labels={}, annotations={}), truncatedAlerts=3)
    yield b"\x01\x1f\x8b\x08\x00"
    yield b"\x03" + webhook()
