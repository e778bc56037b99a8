"""A service's metrics, scraped as Prometheus does."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from worker.devstack.processes import LOOPBACK

if TYPE_CHECKING:
    from prometheus_client.core import Metric

Labels = tuple[tuple[str, str], ...]


class Scrape:
    """What one scrape gave, by names as they are written in queries."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families: dict[str, Metric] = {family.name: family for family in text_string_to_metric_families(text)}
        self._samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float | None:
        """None where there is no such series."""
        return self._samples.get((name, tuple(sorted(labels.items()))))

    def labels(self, name: str) -> set[Labels]:
        return {labels for sample, labels in self._samples if sample == name}

    def by(self, name: str, *keys: str) -> dict[tuple[str, ...], float]:
        """Those that are not 0, by these labels."""
        return {
            tuple(dict(labels)[key] for key in keys): value
            for (sample, labels), value in self._samples.items()
            if sample == name and value != 0
        }


def scrape(port: int) -> Scrape:
    """Empty where nothing listens yet."""
    try:
        with urlopen(f"http://{LOOPBACK}:{port}/metrics", timeout=10) as response:
            return Scrape(response.read().decode())
    except URLError:
        return Scrape("")
