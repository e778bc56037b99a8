"""A real Prometheus and a real Alertmanager, the bridge, Kafka, worker and relay: what happened to an alert is what is recorded."""

from __future__ import annotations

import json
import threading
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from tests.support.prometheus import running_alertmanager, running_prometheus
from tests.support.roles import as_reader
from tests.support.system import System, running_system, wait_until
from tests.support.webhook import TOKEN, running_bridge
from worker.codec import load_codec
from worker.devstack.processes import LOOPBACK
from worker.domain.aggregate import ALERT
from worker.domain.alert import alert_id_of
from worker.domain.fingerprint import fingerprint_of
from worker.postgres.queries import connect_reader
from worker.postgres.queries.alert import SreAlertQueryService
from worker.topics import REJECTED_TOPIC

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from worker.domain.alert import AlertIngested

pytestmark = pytest.mark.usefixtures("topics")

RULES = """
groups:
- name: checkout
  interval: 1s
  rules:
  - alert: HighErrorRate
    expr: errors_per_second > 10
    labels:
      severity: page
    annotations:
      summary: '{{ $labels.service }} has many errors'
"""
LABELS = {"alertname": "HighErrorRate", "instance": "shop", "job": "shop", "service": "checkout", "severity": "page"}


@contextmanager
def service_with_errors() -> Iterator[tuple[str, dict[str, float]]]:
    """Address of an endpoint with one metric, and its value to be set: `errors`."""
    values = {"errors": 0.0}

    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(f'errors_per_second{{service="checkout"}} {values["errors"]}\n'.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((LOOPBACK, 0), Metrics)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"{LOOPBACK}:{server.server_port}", values
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def monitored(directory: Path, bridge: str, target: str) -> Iterator[str]:
    """Prometheus scrapes the target and tells Alertmanager, whose base URL this is, which tells the bridge: each within a second or so."""
    (directory / "rules.yml").write_text(RULES, encoding="utf-8")
    authorization = {"authorization": {"credentials": TOKEN}}
    route = {"receiver": "sre", "group_by": ["alertname"], "group_wait": "1s", "group_interval": "1s", "repeat_interval": "1s"}
    webhook = {"url": bridge, "send_resolved": True, "http_config": authorization}
    alertmanager_config = {"route": route, "receivers": [{"name": "sre", "webhook_configs": [webhook]}]}
    with running_alertmanager(directory, json.dumps(alertmanager_config)) as alertmanager:
        target_of_shop = {"targets": [target], "labels": {"instance": "shop"}}
        scrape = {"job_name": "shop", "scrape_interval": "500ms", "scrape_timeout": "500ms", "static_configs": [target_of_shop]}
        told = {"static_configs": [{"targets": [alertmanager.removeprefix("http://")]}]}
        prometheus_config = {"rule_files": ["rules.yml"], "scrape_configs": [scrape], "alerting": {"alertmanagers": [told]}}
        with running_prometheus(directory, json.dumps(prometheus_config)):
            yield alertmanager


@pytest.fixture
def system(kafka: str, database: str, tmp_path: Path) -> Iterator[System]:
    with running_system(kafka, database, tmp_path) as system:
        system.start("relay")
        system.start("worker")
        yield system


def ingested(system: System) -> list[AlertIngested]:
    values = [record.value or b"" for record in list(system.seen) if dict(record.headers)["ce_type"] == b"sre.core.v1.AlertIngested"]
    return [ALERT.facts["AlertIngested"].validate_python(load_codec().decode("AlertIngested", value)) for value in values]


def notifications(alertmanager: str) -> float:
    """How many it has sent to webhooks."""
    with urllib.request.urlopen(f"{alertmanager}/metrics", timeout=5) as response:  # noqa: S310 - http, on the loopback interface
        lines = response.read().decode().splitlines()
    sent = 'alertmanager_notifications_total{integration="webhook"'
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(sent))


def test_an_alert_that_fires_resolves_and_fires_again_has_two_episodes_however_often_it_is_repeated(
    system: System, kafka: str, tmp_path: Path
) -> None:
    def wait_for_facts(count: int) -> None:
        wait_until(lambda: len(ingested(system)) >= count, 60, lambda: f"{len(ingested(system))} of {count} facts {system.logs()}")

    with running_bridge(kafka, tmp_path / "bridge.log") as (bridge, _), service_with_errors() as (target, values):
        began = datetime.now(UTC)
        with monitored(tmp_path, bridge, target) as alertmanager:
            for count, errors in enumerate((20.0, 0.0, 30.0), 1):
                values["errors"] = errors
                wait_for_facts(count)
            told = notifications(alertmanager)
            wait_until(lambda: notifications(alertmanager) >= told + 3, 60, system.logs)
    assert "WARNING" not in (tmp_path / "bridge.log").read_text()
    system.wait_until_published()

    facts = ingested(system)
    assert [(fact.previous_status, fact.status, fact.episode) for fact in facts] == [
        (None, "firing", 1),
        ("firing", "resolved", 1),
        ("resolved", "firing", 2),
    ]
    first, ended, anew = facts
    for fact in facts:
        assert (fact.source, fact.name, fact.severity, fact.labels) == ("prometheus", "HighErrorRate", "critical", LABELS)
        assert (fact.fingerprint, fact.annotations) == (fingerprint_of(LABELS), {"summary": "checkout has many errors"})
    assert first.ends_at is anew.ends_at is None
    assert ended.ends_at is not None
    assert began < first.starts_at == ended.starts_at < ended.ends_at < anew.starts_at < datetime.now(UTC)

    assert [record for record in system.seen if record.topic == REJECTED_TOPIC] == []
    assert system.count("inbox", "outcome = 'facts'") == len(facts)
    assert system.count("inbox", "outcome = 'rejected'") == 0
    assert system.count("inbox") <= 2 * len(facts)  # repeats within five minutes are the same intents, and the test may meet a new five
    with connect_reader(as_reader(system.settings.writer_dsn)) as connection:
        alert = SreAlertQueryService(connection).get_alert("acme", alert_id_of("acme", "prometheus", fingerprint_of(LABELS)))
    assert alert is not None
    assert (alert.version, alert.status, alert.episode, alert.starts_at) == (3, "firing", 2, anew.starts_at)
    assert system.breaches() == system.breaches(system.seen) == []
