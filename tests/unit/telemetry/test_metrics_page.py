"""docs/metrics.md lists what is told, and nothing else; promtool's rules for names hold; nothing is imported that nobody asked for."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.unit.test_docs import rows
from worker.consumer_state import Backlog
from worker.relay.slot_position import SlotPosition
from worker.relay.status import RelayStatus
from worker.telemetry.relay_metrics import RelayMetrics
from worker.telemetry.worker_metrics import WorkerMetrics

if TYPE_CHECKING:
    from prometheus_client.core import Metric

PAGE = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
OTHERS = ("process_",)  # prometheus-client's own
NOT_LABELS = {"le"}
HEAVY = ["prometheus_client", "structlog", "opentelemetry.sdk", "opentelemetry.exporter", "requests"]


def families() -> dict[str, Metric]:
    """Of a worker and of an active relay, with every question answered."""
    worker = WorkerMetrics(
        state=lambda: "active", unsigned=Counter(), backlog=lambda: Backlog({}, None), partitions_ahead=lambda: {"inbox": 1, "outbox": 1}
    )
    status = RelayStatus()
    status.enter("active")
    relay = RelayMetrics(status, lambda: SlotPosition(3, 2, 1, 0))
    found = [*worker._registry.collect(), *relay._registry.collect()]
    return {family.name: family for family in found if not family.name.startswith(OTHERS)}


def as_told(family: Metric) -> tuple[str, str, str]:
    """Name, type and labels, as the page has them."""
    name = {"counter": f"{family.name}_total", "info": f"{family.name}_info"}.get(family.type, family.name)
    labels = sorted({label for sample in family.samples for label in sample.labels} - NOT_LABELS)
    return f"`{name}`", "gauge" if family.type == "info" else family.type, ", ".join(f"`{label}`" for label in labels)


def documented() -> list[tuple[str, str, str]]:
    found = [cells for cells in rows(PAGE) if len(cells) == 4 and cells[0].startswith("`")]
    return sorted((name, kind, ", ".join(sorted(labels.split(", ")))) for name, kind, labels, _ in found)


def test_the_page_lists_every_metric_with_its_type_and_labels() -> None:
    assert documented() == sorted(map(as_told, families().values()))


def test_the_page_has_the_bounds_of_every_histogram() -> None:
    bounds = {
        f"`{family.name}`": sorted({float(sample.labels["le"]) for sample in family.samples if "le" in sample.labels} - {float("inf")})
        for family in families().values()
        if family.type == "histogram"
    }
    listed = {
        name: [float(bound) for bound in cells.split(", ")] for name, cells in (one for one in rows(PAGE) if len(one) == 2) if "`" in name
    }
    assert listed == bounds


@pytest.mark.parametrize("family", families().values(), ids=lambda family: family.name)
def test_a_metric_has_help_a_prefix_of_its_own_and_a_base_unit(family: Metric) -> None:
    assert family.documentation
    assert re.match(r"sre_domain_(worker|relay|build)", family.name)
    assert not re.search(r"_(milli|micro)?(minutes|hours|days|ms|kb|mb|milliseconds|percent)(_|$)", family.name)


def test_a_command_that_tells_nothing_imports_nothing_to_tell_it_with() -> None:
    imports = "import sys, worker.telemetry.services; from typer.main import get_command; from worker.cli.main import app"
    code = f"{imports}; [*get_command(app).commands.values()]; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
