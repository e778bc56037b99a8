"""A histogram to which many observations of one value are added at once, which those of prometheus-client don't offer."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from threading import Lock
from typing import TYPE_CHECKING

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class WeightedHistogram(Collector):
    """Filled by one thread and read by others; `bounds` are the upper ones, rising, without the infinite one."""

    def __init__(self, name: str, documentation: str, bounds: Sequence[float]) -> None:
        self._name, self._documentation, self._bounds = name, documentation, bounds
        self._lock = Lock()
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, values: Iterable[tuple[float, int]]) -> None:
        """Each value so many times."""
        with self._lock:
            for value, times in values:
                self._counts[bisect_left(self._bounds, value)] += times
                self._sum += value * times

    def collect(self) -> Iterator[HistogramMetricFamily]:
        with self._lock:
            counts, total = list(self._counts), self._sum
        labels = [*map(floatToGoString, self._bounds), "+Inf"]
        family = HistogramMetricFamily(self._name, self._documentation)
        family.add_metric([], list(zip(labels, map(float, accumulate(counts)), strict=True)), total)
        yield family
