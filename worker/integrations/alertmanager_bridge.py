"""The receiver of Alertmanager's webhook: 2xx once Kafka has acknowledged an intent for each alert, and not before.

What Alertmanager makes of the answer: after a 5xx, or none, it tries again with growing pauses until the group's next interval. A 4xx it
does not try again, so those say that the same body would fail the same way; the group still counts as not notified and is sent anew, as it
then stands, at its next interval. So 503 is for Kafka alone, and nothing is lost by a refusal. Where some intents of a notification were
acknowledged before one failed, the retry repeats them under the same ids.

An alert that the worker will refuse (a wrong fingerprint, no label) is sent all the same: the refusal is then on record as IntentRejected.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from aiohttp import web

from worker.client import BusError, IntentInvalidError, IntentPublisher, publish, to_outgoing
from worker.errors import WorkerError
from worker.integrations.alertmanager import WebhookInvalidError, read_notification
from worker.registry import RegistryError, codec_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from worker.client import Intent
    from worker.settings import BridgeSettings

    Publish = Callable[[Sequence[Intent]], Awaitable[object]]

MAX_BODY_BYTES: Final = 8 * 1024 * 1024
"""An alert with labels and annotations has one or two KB: a group of thousands fits, and a few senders at once don't fill the memory."""

_STOP_SECONDS: Final = 45.0  # an intent is acknowledged or given up in 30
_GROUP_KEY_SHOWN: Final = 200
_LOG = logging.getLogger(__name__)


class BridgeError(WorkerError):
    """The bridge cannot listen where it was told to."""


def run_bridge(settings: BridgeSettings, tenant_id: str, host: str, port: int) -> None:
    """Return after SIGTERM or SIGINT, once the requests that were under way are answered."""
    codec = codec_of(settings)
    with IntentPublisher(settings, codec) as publisher:

        async def publish_all(intents: Sequence[Intent]) -> None:
            try:
                await publisher.publish_async(intents)
            except IntentInvalidError:  # before anything was sent; the worker is to refuse it, on record
                await asyncio.to_thread(publish, settings, [to_outgoing(intent, codec) for intent in intents])

        app = bridge_app(tenant_id, settings.bridge_token.get_secret_value(), publish_all)
        _LOG.info("starting, for Alertmanager at http://%s:%s/, with Kafka at %s", host, port, settings.kafka_bootstrap_servers)
        try:
            web.run_app(app, host=host, port=port, shutdown_timeout=_STOP_SECONDS, access_log=None, print=None)
        except OSError as error:
            raise BridgeError(f"cannot listen at {host}:{port}: {error.strerror or error}") from None
    _LOG.info("stopped")


def bridge_app(tenant_id: str, token: str, publish_all: Publish) -> web.Application:
    """`publish_all` returns once Kafka has acknowledged all intents; raises BusError."""

    async def receive(request: web.Request) -> web.Response:
        if not _authorised(request, token):
            return _refuse(request, 401, "the bearer token is missing or wrong", {"WWW-Authenticate": "Bearer"})
        try:
            notification = read_notification(await request.read(), tenant_id, datetime.now(UTC))
            await publish_all(notification.intents)
        except web.HTTPRequestEntityTooLarge:
            return _refuse(request, 413, f"the body has more than {MAX_BODY_BYTES} bytes: set max_alerts in Alertmanager's webhook_configs")
        except web.RequestPayloadError:
            return _refuse(request, 400, "the body is not what its Content-Encoding or its length says")
        except WebhookInvalidError as error:
            return _refuse(request, 400, str(error))
        except (BusError, RegistryError) as error:
            return _refuse(request, 503, str(error))
        if notification.truncated:
            group = notification.group_key[:_GROUP_KEY_SHOWN]
            _LOG.warning("Alertmanager left %d alerts of the group %r out of its notification", notification.truncated, group)
        return web.json_response({"accepted": len(notification.intents), "truncated": notification.truncated})

    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_post("/", receive)
    app.router.add_get("/-/healthy", _healthy)
    return app


async def _healthy(_: web.Request) -> web.Response:
    return web.Response(text="healthy\n")


def _authorised(request: web.Request, token: str) -> bool:
    scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(shown.encode(errors="surrogateescape"), token.encode())


def _refuse(request: web.Request, status: int, reason: str, headers: dict[str, str] | None = None) -> web.Response:
    _LOG.warning("%d to %s: %s", status, request.remote, reason)
    return web.json_response({"error": reason}, status=status, headers=headers)
