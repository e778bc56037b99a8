"""`sre-domain poll`: a monitoring system that is asked again and again, its answers turned into intents."""

from __future__ import annotations

import logging
import re
import signal
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path  # noqa: TC003 - typer reads it
from threading import Event
from typing import TYPE_CHECKING, Annotated, Final

import typer
from tenacity import Retrying, retry_if_exception_type, sleep_using_event, stop_after_delay, stop_when_event_set, wait_exponential

from worker.client import BusError, Intent, IntentPublisher, intent_id_of
from worker.domain.aggregate import intent_name
from worker.domain.fields import EPOCH, format_rfc3339
from worker.domain.sli_ledger import WIDTHS
from worker.domain.slo import RecordSLIWindow
from worker.integrations.poll_state import PollState, load_state, only_poller, save_state
from worker.integrations.prometheus import MAX_WINDOWS, PrometheusUnavailableError, Source
from worker.logs import log_to_stderr
from worker.settings import KafkaSettings, LogSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from worker.integrations.poll_state import Sent
    from worker.integrations.prometheus import Measured

SOURCE: Final = "/integrations/prometheus"

_SETTLING: Final = timedelta(seconds=15)  # a sample has the time at which its scrape began, and a scrape may take 10 s
_OLDEST: Final = timedelta(days=29)  # a window's end is its intent's ce_time, and the worker refuses what is 30 days old
_PATIENCE_SECONDS: Final = 30
_DURATION: Final = re.compile(r"(\d{1,6})([mhd])", re.ASCII)
_UNITS: Final = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_LOG = logging.getLogger(__name__)

app = typer.Typer(no_args_is_help=True)


@app.callback()
def poll() -> None:
    """Ask a monitoring system again and again, and turn what it says into intents."""


@dataclass(frozen=True, slots=True)
class Poller:
    """Polls one SLO. `stopping` ends its waiting, never a window that is under way."""

    source: Source
    tenant: str
    slo: str
    lookback: timedelta
    state_file: Path
    publish: Callable[[list[Intent]], object]
    stopping: Event

    def run(self, now: datetime) -> None:
        """Send what is new at `now` and what has changed since it was sent, oldest first."""
        lookback_from = self._floor(now - self.lookback)
        state = load_state(self.state_file, self.tenant, self.slo, self._seconds) or PollState(
            self.tenant, self.slo, self._seconds, lookback_from, lookback_from
        )
        if state.unconfirmed:
            state = self._send(state, state.unconfirmed)
        first, end = min(state.through, max(state.since, lookback_from)), self._floor(now - _SETTLING)
        oldest = self._floor(now - _OLDEST)
        if first < oldest:
            _LOG.warning("windows before %s are left out: they are older than the worker takes", format_rfc3339(oldest))
        for chunk_from, chunk_end in self._chunks(max(first, oldest), end):
            if self.stopping.is_set():
                return
            measured = self._measure(chunk_from, chunk_end)
            changes = state.changes(measured.windows)
            state = self._send(state, changes, through=max(state.through, chunk_end), since=lookback_from)
            _say(measured, changes, chunk_end)

    def seconds_to_next(self, now: datetime) -> float:
        """Until the next window has settled."""
        settled = now - _SETTLING
        return (self._floor(settled) + self.source.width - settled).total_seconds()

    @property
    def _seconds(self) -> int:
        return int(self.source.width.total_seconds())

    def _floor(self, time: datetime) -> datetime:
        return time - (time - EPOCH) % self.source.width

    def _chunks(self, first: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
        while first < end:
            until = min(end, first + MAX_WINDOWS * self.source.width)
            yield first, until
            first = until

    def _measure(self, first: datetime, end: datetime) -> Measured:
        retrying = Retrying(
            retry=retry_if_exception_type(PrometheusUnavailableError),
            wait=wait_exponential(0.5, max=10),
            stop=stop_after_delay(_PATIENCE_SECONDS) | stop_when_event_set(self.stopping),
            sleep=sleep_using_event(self.stopping),
            reraise=True,
        )
        return retrying(self.source.measure, first, end)

    def _send(
        self, state: PollState, changes: dict[datetime, Sent], through: datetime | None = None, since: datetime | None = None
    ) -> PollState:
        if changes:
            state = replace(state, unconfirmed=changes)
            save_state(self.state_file, state)
            self.publish([self._intent(start, sent) for start, sent in changes.items()])
        state = state.confirmed()
        if through is not None and since is not None:
            state = replace(state, through=through).forgetting(min(since, through))
        save_state(self.state_file, state)
        return state

    def _intent(self, start: datetime, sent: Sent) -> Intent:
        """The same window, revision and counts are the same intent, whoever sends it and whenever."""
        command = RecordSLIWindow(start=start, width_seconds=self._seconds, good=sent.good, total=sent.total, revision=sent.revision)
        what = (self.tenant, self.slo, format_rfc3339(start), self._seconds, sent.revision, sent.good, sent.total)
        intent_id = intent_id_of(SOURCE, "/".join(map(str, what)))
        return Intent(intent_name(RecordSLIWindow), self.tenant, self.slo, command, SOURCE, intent_id, start + self.source.width)


@app.command()
def prometheus(  # noqa: PLR0913, PLR0917 - options of a command
    url: Annotated[str, typer.Option(help="Base URL of Prometheus, or of what speaks its HTTP API.")],
    tenant: Annotated[str, typer.Option(help="Tenant of the SLO.")],
    slo: Annotated[str, typer.Option(help="Id of the SLO that the windows are recorded on.")],
    good: Annotated[str, typer.Option(help="PromQL: good events of the window that ends at the time of evaluation, one series.")],
    total: Annotated[str, typer.Option(help="PromQL: all events of that window.")],
    state: Annotated[Path, typer.Option(help="File that tells a poll where the one before it stopped; keep it.")],
    width: Annotated[int, typer.Option(help="Seconds in a window: 60 or 300.")] = 60,
    lookback: Annotated[
        str, typer.Option(help="How far back counts are compared again, and where the first poll begins: 90m, 1h, 2d.")
    ] = "1h",
    once: Annotated[bool, typer.Option("--once", help="Poll once and exit.")] = False,  # noqa: FBT002 - a command-line flag
) -> None:
    """Record an SLO's windows from two queries of Prometheus, every window again, until SIGTERM or Ctrl-C.

    With --width 60 a query is an increase over a minute: sum(increase(http_requests_total{code!~"5.."}[1m])) and
    sum(increase(http_requests_total[1m])). Windows without a total are left out; where good has no sample, no event was good.

    A poll takes up where the last one stopped. Windows of the lookback whose counts have changed are sent again with the next revision.
    Without its state file a poll starts anew, and the worker refuses counts that are other than those sent before.
    """
    log_to_stderr(LogSettings.from_environment())
    if width not in WIDTHS:
        raise typer.BadParameter("must be 60 or 300", param_hint="--width")
    settings, stopping = KafkaSettings.from_environment(), Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())

    source = Source(url, good, total, WIDTHS[width])
    oldest = _duration(lookback)
    with only_poller(state), IntentPublisher(settings) as publisher:
        _run(Poller(source, tenant, slo, oldest, state, publisher.publish, stopping), once=once)


def _run(poller: Poller, *, once: bool) -> None:
    while not poller.stopping.is_set():
        try:
            poller.run(datetime.now(UTC))
        except (PrometheusUnavailableError, BusError) as error:
            if once:
                raise
            _LOG.warning("%s; nothing is lost, the next poll begins here", error)
        if once or poller.stopping.wait(poller.seconds_to_next(datetime.now(UTC))):
            return


def _duration(text: str) -> timedelta:
    match = _DURATION.fullmatch(text)
    duration = int(match[1]) * _UNITS[match[2]] if match else None
    if duration is None or not timedelta() < duration <= _OLDEST:
        raise typer.BadParameter("must be minutes, hours or days, such as 90m, 1h or 2d, and at most 29d", param_hint="--lookback")
    return duration


def _say(measured: Measured, changes: Mapping[datetime, Sent], end: datetime) -> None:
    corrected = sum(sent.revision > 0 for sent in changes.values())
    counts = f"{len(changes) - corrected} new, {corrected} corrected, {measured.unmeasured} without a total"
    _LOG.info("windows up to %s: %s", format_rfc3339(end), counts)
    if measured.overcounted:
        _LOG.warning("%d windows have more good events than events: counted as all good", measured.overcounted)
    if measured.without_good:
        _LOG.warning("%d windows have events and no sample of the good query: counted as all bad", measured.without_good)
