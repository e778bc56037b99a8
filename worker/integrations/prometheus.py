"""SLI windows out of Prometheus: one range query for the good events and one for all, evaluated at the end of each aligned window.

A query gives the events of the window that ends where it is evaluated, such as `sum(increase(http_requests_total[1m]))` for windows of
60 s. Source: Prometheus, "HTTP API", Range queries.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from datetime import timedelta
from http.client import HTTPException
from itertools import islice
from typing import TYPE_CHECKING, Any, Final
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

from worker.domain.fields import EPOCH, format_rfc3339
from worker.domain.slo import MAX_EVENTS
from worker.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

MAX_WINDOWS: Final = 10_000  # in a query: Prometheus refuses more than 11,000 points

_TIMEOUT_SECONDS: Final = 130  # Prometheus gives up a query after 2 minutes, and says so
_MAX_ANSWER: Final = 16 << 20  # bytes; a series of 10,000 points takes a fiftieth of it
_WARNINGS_SHOWN: Final = 10
_REASON_SHOWN: Final = 1000
_TOO_MANY_REQUESTS: Final = 429
_SERVER_ERROR: Final = 500
_LOG = logging.getLogger(__name__)


class PrometheusError(WorkerError):
    """A query is wrong, or does not give counts of events; asking again would not help."""


class PrometheusUnavailableError(WorkerError):
    """Prometheus is away, or has no time; it may answer later."""


@dataclass(frozen=True, slots=True)
class Counts:
    good: int
    total: int


@dataclass(frozen=True, slots=True)
class Measured:
    """The counts of windows by their start; `unmeasured` are the windows left out, since Prometheus has no total for them.

    `overcounted` had more good events than events, and `without_good` had events and no sample of good ones.
    """

    windows: Mapping[datetime, Counts]
    unmeasured: int
    overcounted: int
    without_good: int


@dataclass(frozen=True, slots=True)
class Source:
    """Where Prometheus is, and the queries that count the good events of a window and all of them."""

    url: str
    good: str
    total: str
    width: timedelta

    def measure(self, first: datetime, end: datetime) -> Measured:
        """The windows that start in [first, end), at most MAX_WINDOWS; both are whole multiples of the width.

        Raises PrometheusError and PrometheusUnavailableError.
        """
        first_end = first + self.width
        good = evaluate(self.url, "good", self.good, first_end, end, self.width)
        total = evaluate(self.url, "total", self.total, first_end, end, self.width)
        return count(good, total, first, end, self.width)


def count(good: Mapping[datetime, float], total: Mapping[datetime, float], first: datetime, end: datetime, width: timedelta) -> Measured:
    """Whole events, from samples by the time of their evaluation.

    `increase()` extrapolates, so that samples are not whole. What is rounded is the total and the difference, the bad events: rounded by
    themselves, 99.4 good of 99.6 would make a bad event that never was. Without a sample of good events none was good, as when every
    request fails from the first one on. Where there are more good events than events, all were good: the two queries see the newest
    samples at different moments.
    """
    windows: dict[datetime, Counts] = {}
    unmeasured = overcounted = without_good = 0
    start = first
    while start < end:
        at = start + width
        all_events, good_events = total.get(at, math.nan), good.get(at, math.nan)
        _refuse_uncountable("total", all_events, at)
        _refuse_uncountable("good", good_events, at)
        if math.isnan(all_events):
            unmeasured += 1
        else:
            events = round(all_events)
            bad = events if math.isnan(good_events) else round(all_events - good_events)
            without_good += math.isnan(good_events) and events > 0
            overcounted += bad < 0
            windows[start] = Counts(events - min(max(bad, 0), events), events)
        start = at
    return Measured(windows, unmeasured, overcounted, without_good)


def _refuse_uncountable(name: str, value: float, at: datetime) -> None:
    if math.isnan(value) or (math.isfinite(value) and 0 <= round(value) <= MAX_EVENTS):
        return
    wanted = "a number of events is wanted, 0 to 10^12, such as an increase() over the window"
    raise PrometheusError(f"the {name} query gives {value} at {format_rfc3339(at)}: {wanted}")


def evaluate(url: str, name: str, query: str, first: datetime, last: datetime, step: timedelta) -> dict[datetime, float]:
    """The samples of the one series that a query gives, by time; none where it gives no series. `name` is what errors call it."""
    form = {"query": query, "start": _seconds(first), "end": _seconds(last), "step": int(step.total_seconds())}
    answer = _post(f"{url.rstrip('/')}/api/v1/query_range", name, urlencode(form).encode())
    try:
        for warning in islice(answer.get("warnings") or (), _WARNINGS_SHOWN):
            _LOG.warning("Prometheus says of the %s query: %.*s", name, _REASON_SHOWN, warning)
        series = answer["data"]["result"]
        if len(series) > 1:
            raise PrometheusError(f"the {name} query gives {len(series)} series, and must give one: put sum() around it")
        values = series[0]["values"] if series else []
        return {EPOCH + timedelta(seconds=round(time)): float(value) for time, value in values}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise PrometheusError(f"{url} does not answer as Prometheus does") from None


def _post(endpoint: str, name: str, form: bytes) -> Any:  # noqa: ANN401 - JSON
    """POST, since a query may be longer than a URL."""
    if urlsplit(endpoint).scheme not in ("http", "https"):
        raise PrometheusError(f"{endpoint}: the URL must begin with http:// or https://")
    try:
        with urlopen(Request(endpoint, form), timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310 - the scheme was looked at
            body = response.read(_MAX_ANSWER + 1)
    except HTTPError as error:
        with error:
            reason = _reason(error.read(_MAX_ANSWER)) or error.reason
        if error.code >= _SERVER_ERROR or error.code == _TOO_MANY_REQUESTS:
            raise PrometheusUnavailableError(f"Prometheus answers {error.code}: {reason}") from None
        raise PrometheusError(f"Prometheus refuses the {name} query: {error.code}: {reason}") from None
    except (OSError, HTTPException) as error:
        raise PrometheusUnavailableError(f"Prometheus does not answer: {getattr(error, 'reason', None) or error!r}") from None
    if len(body) > _MAX_ANSWER:
        raise PrometheusError(f"the answer to the {name} query is larger than {_MAX_ANSWER >> 20} MiB: put sum() around it")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise PrometheusError(f"{endpoint} does not answer as Prometheus does") from None


def _reason(body: bytes) -> str | None:
    """What Prometheus, and not a proxy before it, says of an error; on one line."""
    try:
        return " ".join(str(json.loads(body)["error"])[:_REASON_SHOWN].split())
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _seconds(time: datetime) -> int:
    return (time - EPOCH) // timedelta(seconds=1)
