"""A registry of a service's own, and what every one of them has: its state, its version, its process, and what is asked for at a scrape."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Info, ProcessCollector, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from worker.health import seldom

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from prometheus_client.core import Metric

    Ask = Callable[[], Iterable[Metric]]

PREFIX: Final = "sre_domain"  # the program's own name: whatever an SRE team has may be called sre_
LATENCY_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


def new_registry() -> CollectorRegistry:
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for every counter
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    Info(f"{PREFIX}_build", "The version of the package.", registry=registry).info({"version": version("sre-domain")})
    return registry


def scrape(registry: CollectorRegistry) -> tuple[str, bytes]:
    """Content type and body, whatever is accepted: every scraper reads this format, and choosing one trips over odd Accept headers."""
    return CONTENT_TYPE_PLAIN_0_0_4, generate_latest(registry)


class State(Collector):
    """A gauge for each of `states`, 1 for what `state` says and 0 for the others."""

    def __init__(self, name: str, documentation: str, states: Sequence[str], state: Callable[[], str]) -> None:
        self._name, self._documentation, self._states, self._state = name, documentation, states, state

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(self._name, self._documentation, labels=["state"])
        now = self._state()
        for state in self._states:
            family.add_metric([state], float(state == now))
        yield family


class Asked(Collector):
    """Metrics that a server is asked for, by the server's name; at most once a second, and left out where there is no answer."""

    def __init__(self, name: str, asks: Mapping[str, Ask]) -> None:
        self._name, self._asks = name, asks
        self._recent = seldom(self._ask_all)

    def collect(self) -> Iterator[Metric]:
        yield from self._recent()

    def _ask_all(self) -> list[Metric]:
        success = GaugeMetricFamily(
            self._name, "Whether this scrape was answered what it asked; what was not is absent from it.", labels=["collector"]
        )
        found: list[Metric] = [success]
        for server, ask in self._asks.items():
            try:
                found += ask()
            except Exception:  # noqa: BLE001 - whatever is wrong there, the other metrics are right
                success.add_metric([server], 0)
            else:
                success.add_metric([server], 1)
        return found


def gauge(name: str, documentation: str, value: float | None) -> Metric:
    """One without labels, and without a sample for None."""
    family = GaugeMetricFamily(name, documentation)
    if value is not None:
        family.add_metric([], value)
    return family


def gauges(name: str, documentation: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, documentation, labels=[label])
    for of, value in values.items():
        family.add_metric([of], value)
    return family
