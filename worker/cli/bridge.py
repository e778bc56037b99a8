"""`sre-domain bridge`: a source that sends, turned into intents as it sends them."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.domain.rejection import Rejection
from worker.envelope import malformed
from worker.logs import log_to_stderr
from worker.settings import BridgeSettings, LogSettings

app = typer.Typer(no_args_is_help=True)


@app.callback()
def bridges() -> None:
    """Take what a source sends over HTTP and turn it into intents."""


@app.command()
def alertmanager(
    tenant: Annotated[str, typer.Option(help="Whose alerts they are.")],
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where Alertmanager's webhook_configs send to: http://HOST:PORT/")] = (
        "127.0.0.1:9099"
    ),
) -> None:
    """Take Alertmanager's notifications (webhook version 4) and ask for each alert to be ingested. Stops on SIGTERM and Ctrl-C.

    Alertmanager shows the token of SRE_BRIDGE_TOKEN: webhook_configs, http_config, authorization, credentials. An answer of 2xx says that
    Kafka has everything. GET /-/healthy answers while the bridge runs.
    """
    from worker.integrations.alertmanager_bridge import run_bridge  # noqa: PLC0415 - aiohttp takes a while, and no other command needs it

    log_to_stderr(LogSettings.from_environment())
    if isinstance(malformed(tenant, "any"), Rejection):
        raise typer.BadParameter("must be letters, digits and ._- and at most 63 of them", param_hint="--tenant")
    host, port = _host_and_port(listen)
    run_bridge(BridgeSettings.from_environment(), tenant, host, port)


def _host_and_port(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 2**16:
        raise typer.BadParameter("must be HOST:PORT", param_hint="--listen")
    return host.removeprefix("[").removesuffix("]"), int(port)
