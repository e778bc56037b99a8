"""OpenSLO documents in YAML: definitions that the worker would take, or faults by line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.records import CODEC, NOW
from worker.client import Intent
from worker.domain.aggregate import intent_name
from worker.domain.slo import CreateSLO
from worker.integrations.openslo import read_openslo
from worker.intents import to_valid_outgoing

if TYPE_CHECKING:
    from collections.abc import Iterator

_DATA = Path(__file__).parents[2] / "unit" / "integrations" / "data" / "openslo"
_LARGEST_SEED = 4_096


def check(data: bytes) -> None:
    reading = read_openslo([("slo.yaml", data), ("slo.json", data)] if data[:1] == b"{" else [("slo.yaml", data)], CreateSLO, "a", "team")
    for note in (*reading.refusals, *reading.skipped):
        assert str(note).isprintable()
    for definition in reading.definitions:
        intent = Intent(intent_name(CreateSLO), "acme", definition.slo_id, definition.command, "/tests", time=NOW)
        to_valid_outgoing(intent, CODEC)


def seeds() -> Iterator[bytes]:
    for path in sorted(_DATA.glob("*.yaml")):
        content = path.read_bytes()
        if len(content) <= _LARGEST_SEED:
            yield content
    yield (
        b"apiVersion: openslo/v1\nkind: SLO\nmetadata: {name: checkout, labels: {owner: a}}\nspec:\n  service: s\n"
        b"  indicator: {metadata: {name: i}, spec: {ratioMetric: {counter: true, good: {metricSource: {spec: {query: g}}}, "
        b"total: {metricSource: {spec: {query: t}}}}}}\n  timeWindow: [{duration: 7d, isRolling: true}]\n"
        b"  budgetingMethod: Occurrences\n  objectives: [{target: 0.99}]\n"
    )
