"""Bodies of Alertmanager's webhook, and the bridge to send them to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.system import wait_until
from worker.devstack.processes import LOOPBACK, free_port
from worker.domain.fields import format_rfc3339
from worker.domain.fingerprint import fingerprint_of

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
TOKEN = "a token of the tests"  # noqa: S105 - protects nothing
LABELS = {"alertname": "HighErrorRate", "service": "checkout", "severity": "critical"}
NO_TIME = "0001-01-01T00:00:00Z"
LEFT_OUT = object()


def firing(starts_at: datetime, /, **changes: object) -> dict[str, Any]:
    """An alert as Alertmanager sends it; a field that is LEFT_OUT is not there."""
    alert = {
        "status": "firing",
        "labels": LABELS,
        "annotations": {"summary": "many errors"},
        "startsAt": format_rfc3339(starts_at),
        "endsAt": NO_TIME,
        "generatorURL": "",
        "fingerprint": fingerprint_of(LABELS),
    }
    return {name: value for name, value in {**alert, **changes}.items() if value is not LEFT_OUT}


def resolved(starts_at: datetime, ends_at: datetime, /, **changes: object) -> dict[str, Any]:
    return firing(starts_at, **{"status": "resolved", "endsAt": format_rfc3339(ends_at), **changes})


def webhook(*alerts: object, **changes: object) -> bytes:
    body = {"version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0, "status": "firing", "receiver": "sre", "alerts": alerts}
    return json.dumps({name: value for name, value in {**body, **changes}.items() if value is not LEFT_OUT}).encode()


def many(count: int) -> list[dict[str, Any]]:
    """Different alerts that begin so soon that no period of retries begins between two sendings of them."""
    soon = datetime.now(UTC) + timedelta(minutes=4)
    labels = [LABELS | {"pod": f"checkout-{number}"} for number in range(count)]
    return [firing(soon, labels=each, fingerprint=fingerprint_of(each)) for each in labels]


def send(url: str, body: bytes, token: str | None = TOKEN) -> tuple[int, dict[str, Any]]:
    """Status and JSON of the answer."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - http, on the loopback interface
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - the same
            return response.status, json.load(response)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.load(refusal)


@contextmanager
def running_bridge(kafka: str, log: Path, tenant: str = "acme") -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Base URL and process of a `sre-domain bridge alertmanager`; stopped at the end as an operator would, which must be clean."""
    port = free_port()
    url = f"http://{LOOPBACK}:{port}"
    environment = {"SRE_KAFKA_BOOTSTRAP_SERVERS": kafka, "SRE_BRIDGE_TOKEN": TOKEN, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "worker", "bridge", "alertmanager", "--tenant", tenant, "--listen", f"{LOOPBACK}:{port}"]
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=os.environ | environment, stdout=output, stderr=output)
    try:
        wait_until(lambda: healthy(url) or process.poll() is not None, 30, log.read_text)
        yield url, process
        process.terminate()
        assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/healthy", timeout=5) as response:  # noqa: S310 - http, on the loopback interface
            return bool(response.status == 200)
    except OSError:
        return False
