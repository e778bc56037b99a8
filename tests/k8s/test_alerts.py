"""The alerts are rules that Prometheus takes, they go off when they should, lead to the runbook, and ask for metrics that there are."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from k8s.dashboard import PANELS
from k8s.slos import ALERTS, RUNBOOK, SLOS, groups
from tests.k8s.asked_for import metrics, panels, recorded, rules
from tests.k8s.kustomize import K8S, ROOT, manifests, named
from tests.support.prometheus import program
from tests.unit.test_pages import anchors

if TYPE_CHECKING:
    from pathlib import Path

RULE_TESTS = ROOT / "tests" / "k8s" / "alerts.test.yaml"
OF_THE_CLIENT = {"process_cpu_seconds_total", "process_resident_memory_bytes"}  # prometheus-client's own


@pytest.fixture(scope="module")
def rules_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("rules") / "rules.yaml"
    file.write_text(yaml.safe_dump(named(manifests("overlays/prod"), "PrometheusRule", "sre-domain")["spec"]), encoding="utf-8")
    return file


def promtool(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*program("promtool"), *arguments], cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_prometheus_takes_the_rules(rules_file: Path) -> None:
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", str(rules_file), cwd=rules_file.parent)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_goes_off_when_it_should_and_only_then(rules_file: Path) -> None:
    tests = rules_file.parent / "tests.yaml"
    tests.write_text(RULE_TESTS.read_text(encoding="utf-8"), encoding="utf-8")
    done = promtool("test", "rules", tests.name, cwd=rules_file.parent)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried_and_seen_silent() -> None:
    cases = [case for group in yaml.safe_load(RULE_TESTS.read_text(encoding="utf-8"))["tests"] for case in group["alert_rule_test"]]
    names = {slo.alert for slo in SLOS} | {alert.name for alert in ALERTS}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == names
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == names


@pytest.mark.parametrize("section", sorted({one.section for one in (*SLOS, *ALERTS)}))
def test_an_alert_leads_to_a_section_of_the_runbook(section: str) -> None:
    assert RUNBOOK.endswith("docs/runbook.md#")
    assert section in anchors("docs/runbook.md")


def test_the_runbook_names_every_alert() -> None:
    text = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    assert {name for name in (*(slo.alert for slo in SLOS), *(alert.name for alert in ALERTS)) if f"`{name}`" not in text} == set()


def documented() -> set[str]:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `(sre_domain_\w+)` \|", page, re.MULTILINE)) | OF_THE_CLIENT


def test_the_alerts_ask_for_metrics_that_there_are() -> None:
    assert metrics(rules()) <= documented()
    assert recorded(rules()) <= {rule["record"] for group in groups() for rule in group["rules"] if "record" in rule}


def test_the_dashboard_asks_for_every_metric_and_for_no_other() -> None:
    assert metrics(panels()) == documented()


def test_the_dashboards_queries_are_ones_that_prometheus_takes(tmp_path: Path) -> None:
    expressions = [expression.replace("$__rate_interval", "1m") for expression in panels()]
    recording = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(expressions)]
    file = tmp_path / "dashboard.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recording}]}), encoding="utf-8")
    done = promtool("check", "rules", str(file), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_panel_lies_on_another() -> None:
    dashboard = json.loads((K8S / "base" / "services" / "dashboard.json").read_text(encoding="utf-8"))
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    assert len({(place["x"], place["y"]) for place in places}) == len(places) == len(PANELS)
    assert all(place["x"] + place["w"] <= 24 for place in places)
