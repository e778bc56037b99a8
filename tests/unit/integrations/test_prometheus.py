"""`sre-domain poll prometheus`: what is asked, what is sent, and what a poller remembers. Kafka stands aside, Prometheus is a stub."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.support.system import wait_until
from worker.cli import poll
from worker.cli.poll import Poller
from worker.client import BusError, Intent
from worker.domain.fields import EPOCH
from worker.domain.slo import RecordSLIWindow
from worker.errors import WorkerError
from worker.integrations.poll_state import PollStateError, load_state, only_poller
from worker.integrations.prometheus import (
    MAX_WINDOWS,
    Counts,
    PrometheusError,
    PrometheusUnavailableError,
    Source,
    count,
    evaluate,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

MINUTE = timedelta(minutes=1)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SETTLED = timedelta(seconds=15)


@dataclass
class Stub:
    """Answers range queries: `samples` by query and time; `status` and `body` stand in for an answer where they are set."""

    url: str = ""
    samples: dict[str, dict[datetime, float]] = field(default_factory=lambda: {"good": {}, "total": {}})
    asked: list[dict[str, str]] = field(default_factory=list)
    status: int = 200
    body: bytes | None = None
    failures: int = 0
    series: int = 1

    def set(self, minute: int, good: float | None, total: float | None, width: timedelta = MINUTE) -> None:
        """The samples at the end of the window that starts `minute` minutes after noon."""
        for query, value in (("good", good), ("total", total)):
            if value is not None:
                self.samples[query][NOON + minute * MINUTE + width] = value

    def answer(self, form: dict[str, str]) -> tuple[int, bytes]:
        self.asked.append(form)
        if self.failures:
            self.failures -= 1
            return 503, b"Service Unavailable"
        if self.body is not None:
            return self.status, self.body
        points = range(int(form["start"]), int(form["end"]) + 1, int(form["step"]))
        if len(points) > 11_000:
            return 400, json.dumps({"status": "error", "errorType": "bad_data", "error": "exceeded maximum resolution"}).encode()
        samples = self.samples[form["query"]]
        values = [[at, str(samples[time])] for at in points if (time := EPOCH + timedelta(seconds=at)) in samples]
        result = [{"metric": {}, "values": values}] * self.series if values else []
        return 200, json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}).encode()


@contextmanager
def serving(stub: Stub) -> Iterator[Stub]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            status, body = (400, b"") if self.path != "/api/v1/query_range" else stub.answer({key: value[0] for key, value in form.items()})
            self.send_response(status)
            self.end_headers()
            with suppress(OSError):  # a client may have read enough
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def stub() -> Iterator[Stub]:
    with serving(Stub()) as running:
        yield running


@dataclass
class Kafka:
    """Takes intents: all of them, or `takes` of them and then does not answer."""

    taken: list[Intent] = field(default_factory=list)
    takes: int | None = None

    def publish(self, intents: list[Intent]) -> None:
        self.taken += intents[: self.takes]
        if self.takes is not None:
            raise BusError("Kafka does not answer")

    def windows(self) -> list[tuple[int, int, int, int]]:
        """Minute after noon, good, total and revision of what was taken; clears it."""
        commands = [intent.command for intent in self.taken]
        self.taken.clear()
        found = []
        for command in commands:
            assert isinstance(command, RecordSLIWindow)
            found.append(((command.start - NOON) // MINUTE, command.good, command.total, command.revision))
        return found


@pytest.fixture
def kafka() -> Kafka:
    return Kafka()


@pytest.fixture
def poller(stub: Stub, kafka: Kafka, tmp_path: Path) -> Poller:
    source = Source(stub.url, "good", "total", MINUTE)
    return Poller(source, "acme", "checkout", timedelta(minutes=10), tmp_path / "state.json", kafka.publish, Event())


def at(minute: float) -> datetime:
    """When the windows that end `minute` minutes after noon, or before, have settled."""
    return NOON + minute * MINUTE + SETTLED


# Counting


def counted(good: float | None, total: float | None) -> Counts | None:
    samples = [{} if value is None else {NOON + MINUTE: value} for value in (good, total)]
    return count(samples[0], samples[1], NOON, NOON + MINUTE, MINUTE).windows.get(NOON)


@pytest.mark.parametrize(
    ("good", "total", "expected"),
    [
        (95.0, 100.0, Counts(95, 100)),
        (0.0, 0.0, Counts(0, 0)),
        (99.4, 99.6, Counts(100, 100)),
        (99.49999999, 99.50000001, Counts(100, 100)),
        (98.7, 99.6, Counts(99, 100)),
        (100.4, 99.0, Counts(99, 99)),
        (150.0, 100.0, Counts(100, 100)),
        (None, 7.2, Counts(0, 7)),
        (math.nan, 7.2, Counts(0, 7)),
        (5.0, None, None),
        (5.0, math.nan, None),
        (None, None, None),
        (-1e-9, 1e-9, Counts(0, 0)),
        (1e12, 1e12, Counts(10**12, 10**12)),
    ],
)
def test_samples_become_whole_events(good: float | None, total: float | None, expected: Counts | None) -> None:
    assert counted(good, total) == expected


@pytest.mark.parametrize("value", [-1.0, math.inf, -math.inf, 1e12 + 1])
def test_what_is_no_number_of_events_is_refused_by_query_and_time(value: float) -> None:
    with pytest.raises(PrometheusError, match=r"the good query gives .* at 2026-03-02T12:01:00.000000Z: a number of events is wanted"):
        counted(value, 5.0)
    with pytest.raises(PrometheusError, match="the total query gives"):
        counted(5.0, value)


@given(st.floats(0, 1e12), st.floats(0, 1e12))
def test_good_events_are_never_more_than_all_events(good: float, total: float) -> None:
    counts = counted(good, total)
    assert counts is not None
    assert 0 <= counts.good <= counts.total == round(total)


@given(st.floats(0, 1e6))
def test_extrapolation_makes_no_bad_event(total: float) -> None:
    counts = counted(total, total)
    assert counts is not None
    assert counts.good == counts.total


def test_what_was_left_out_or_cut_is_counted() -> None:
    measured = count({NOON + MINUTE: 9.0}, {NOON + MINUTE: 5.0, NOON + 2 * MINUTE: 3.0}, NOON, NOON + 4 * MINUTE, MINUTE)
    assert (measured.unmeasured, measured.overcounted, measured.without_good) == (2, 1, 1)


# Asking


def test_a_query_is_evaluated_at_the_end_of_each_window(stub: Stub, poller: Poller) -> None:
    stub.set(0, 5, 6)
    measured = poller.source.measure(NOON, NOON + 3 * MINUTE)
    assert measured.windows == {NOON: Counts(5, 6)}
    start, end = (NOON - EPOCH) // timedelta(seconds=1) + 60, (NOON - EPOCH) // timedelta(seconds=1) + 180
    assert stub.asked == [{"query": query, "start": str(start), "end": str(end), "step": "60"} for query in ("good", "total")]


def test_more_than_one_series_is_refused(stub: Stub) -> None:
    stub.set(0, 5, 6)
    stub.series = 3
    with pytest.raises(PrometheusError, match=r"the good query gives 3 series, and must give one: put sum\(\) around it"):
        evaluate(stub.url, "good", "good", NOON, NOON + MINUTE, MINUTE)


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (400, b'{"status":"error","errorType":"bad_data","error":"1:5: parse\\nerror"}', "refuses the good query: 400: 1:5: parse error"),
        (422, b'{"status":"error","error":"too many samples"}', "refuses the good query: 422: too many samples"),
        (404, b"<html>", "refuses the good query: 404"),
        (200, b"<html>", "does not answer as Prometheus does"),
        (200, b"[]", "does not answer as Prometheus does"),
        (200, b'{"data": null}', "does not answer as Prometheus does"),
        (200, b'{"data": {"result": [{"values": [[0]]}]}}', "does not answer as Prometheus does"),
        (200, b'{"data": {"result": [{"values": [[0, "x"]]}]}}', "does not answer as Prometheus does"),
        (200, b" " * (17 << 20), "larger than 16 MiB"),
    ],
)
def test_an_answer_that_helps_nobody_ends_the_poll(stub: Stub, status: int, body: bytes, says: str) -> None:
    stub.status, stub.body = status, body
    with pytest.raises(PrometheusError) as raised:
        evaluate(stub.url, "good", "good", NOON, NOON + MINUTE, MINUTE)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_a_prometheus_without_time_may_be_asked_again(stub: Stub, status: int) -> None:
    stub.status, stub.body = status, b'{"error": "query timed out"}'
    with pytest.raises(PrometheusUnavailableError, match=f"Prometheus answers {status}: query timed out"):
        evaluate(stub.url, "good", "good", NOON, NOON + MINUTE, MINUTE)


def test_a_prometheus_that_is_away_may_be_asked_again() -> None:
    with serving(Stub()) as gone:
        pass
    with pytest.raises(PrometheusUnavailableError, match="Prometheus does not answer"):
        evaluate(gone.url, "good", "good", NOON, NOON + MINUTE, MINUTE)


def test_only_http_is_asked() -> None:
    with pytest.raises(PrometheusError, match="must begin with http"):
        evaluate("file:///etc", "good", "good", NOON, NOON + MINUTE, MINUTE)


def test_a_short_outage_is_waited_out(stub: Stub, poller: Poller, kafka: Kafka) -> None:
    stub.set(0, 5, 6)
    stub.failures = 2
    poller.run(at(1))
    assert kafka.windows() == [(0, 5, 6, 0)]


# Polling


def test_the_first_poll_begins_with_the_lookback(stub: Stub, poller: Poller, kafka: Kafka) -> None:
    for minute in range(-30, 30):
        stub.set(minute, 5, 6)
    poller.run(at(0))
    assert kafka.windows() == [(minute, 5, 6, 0) for minute in range(-10, 0)]


def test_a_window_is_asked_for_once_it_has_settled(stub: Stub, poller: Poller, kafka: Kafka) -> None:
    stub.set(0, 5, 6)
    just_before = at(1) - timedelta(microseconds=1)
    poller.run(just_before)
    assert kafka.windows() == []
    assert poller.seconds_to_next(just_before) == pytest.approx(0.000001)
    assert poller.seconds_to_next(at(1)) == 60
    poller.run(at(1))
    assert kafka.windows() == [(0, 5, 6, 0)]


def test_a_poll_resumes_where_the_last_one_stopped(stub: Stub, poller: Poller, kafka: Kafka) -> None:
    for minute in range(180):
        stub.set(minute, 5, 6)
    poller.run(at(2))
    assert kafka.windows() == [(0, 5, 6, 0), (1, 5, 6, 0)]
    poller.run(at(150))
    assert kafka.windows() == [(minute, 5, 6, 0) for minute in range(2, 150)]
    poller.run(at(150))
    assert kafka.windows() == []


def test_changed_counts_are_sent_with_the_next_revision(stub: Stub, poller: Poller, kafka: Kafka) -> None:
    for minute in range(3):
        stub.set(minute, 5, 6)
    poller.run(at(3))
    kafka.taken.clear()
    stub.set(1, 6, 7)
    poller.run(at(3))
    assert kafka.windows() == [(1, 6, 7, 1)]
    stub.set(1, 5, 6)
    poller.run(at(4))
    assert kafka.windows() == [(1, 5, 6, 2)]
    poller.run(at(4))
    assert kafka.windows() == []


def test_late_samples_make_a_new_window(stub: Stub, poller: Poller, kafka: Kafka) -> None:
    stub.set(1, 5, 6)
    poller.run(at(2))
    stub.set(0, 1, 2)
    kafka.taken.clear()
    poller.run(at(2))
    assert kafka.windows() == [(0, 1, 2, 0)]


def test_windows_before_the_lookback_are_not_asked_for_again(stub: Stub, poller: Poller, kafka: Kafka) -> None:
    for minute in range(30):
        stub.set(minute, 5, 6)
    poller.run(at(5))
    poller.run(at(30))
    kafka.taken.clear()
    stub.set(19, 6, 7)
    stub.set(20, 6, 7)
    longer = replace(poller, lookback=timedelta(hours=1))
    longer.run(at(30))  # what was forgotten can't be compared, so it stays as it is
    assert kafka.windows() == [(20, 6, 7, 1)]


def test_an_intent_is_the_same_whenever_it_is_sent(stub: Stub, poller: Poller, kafka: Kafka, tmp_path: Path) -> None:
    for minute in range(3):
        stub.set(minute, 5, 6)
    poller.run(at(3))
    first = list(kafka.taken)
    assert [intent.time for intent in first] == [NOON + minute * MINUTE for minute in (1, 2, 3)]
    replace(poller, state_file=tmp_path / "other.json").run(at(4))
    assert kafka.taken[3:] == first
    assert len({intent.intent_id for intent in first}) == 3


def test_what_may_have_been_sent_is_sent_again_before_it_is_corrected(stub: Stub, poller: Poller, kafka: Kafka) -> None:
    stub.set(0, 5, 6)
    kafka.takes = 1
    with pytest.raises(BusError):
        poller.run(at(1))
    unanswered = list(kafka.taken)
    kafka.takes = None
    stub.set(0, 6, 7)
    poller.run(at(1))
    assert kafka.taken[1:2] == unanswered
    assert kafka.windows() == [(0, 5, 6, 0), (0, 5, 6, 0), (0, 6, 7, 1)]


def test_nothing_is_lost_while_kafka_is_away(stub: Stub, poller: Poller, kafka: Kafka) -> None:
    for minute in range(60):
        stub.set(minute, 5, 6)
    kafka.takes = 0
    for minute in (1, 2):
        with pytest.raises(BusError):
            poller.run(at(minute))
    kafka.takes = None
    poller.run(at(60))
    assert kafka.windows() == [(minute, 5, 6, 0) for minute in range(60)]


def test_long_ranges_are_asked_for_in_parts(stub: Stub, poller: Poller, kafka: Kafka) -> None:
    stub.set(0, 5, 6)
    stub.set(MAX_WINDOWS + 4, 5, 6)
    long = replace(poller, lookback=timedelta(minutes=MAX_WINDOWS + 5))
    long.run(at(MAX_WINDOWS + 5))
    assert kafka.windows() == [(0, 5, 6, 0), (MAX_WINDOWS + 4, 5, 6, 0)]
    assert len(stub.asked) == 4


def test_windows_older_than_the_worker_takes_are_left_out(
    stub: Stub, poller: Poller, kafka: Kafka, caplog: pytest.LogCaptureFixture
) -> None:
    poller.run(at(0))
    later = 40 * 24 * 60
    stub.set(1, 5, 6)
    stub.set(later - 29 * 24 * 60, 5, 6)
    poller.run(at(later))
    assert kafka.windows() == [(later - 29 * 24 * 60, 5, 6, 0)]
    assert "windows before 2026-03-13T12:00:00.000000Z are left out" in caplog.text


def test_five_minute_windows(stub: Stub, poller: Poller, kafka: Kafka) -> None:
    width = timedelta(minutes=5)
    stub.set(0, 5, 6, width)
    five = replace(poller, source=replace(poller.source, width=width))
    five.run(at(4))
    assert kafka.windows() == []
    five.run(at(5))
    assert [intent.command for intent in kafka.taken] == [RecordSLIWindow(start=NOON, width_seconds=300, good=5, total=6)]


@settings(deadline=None)
@given(st.data())
def test_the_last_revision_of_each_window_has_the_last_counts(data: st.DataObject) -> None:
    """Whatever fails, and whenever: what the worker ends up with is what Prometheus said last, and no intent has two contents."""
    stub, kafka = Stub(), Kafka()
    counts = st.dictionaries(st.integers(0, 4), st.tuples(st.integers(0, 3), st.integers(0, 1)))
    with TemporaryDirectory() as directory:
        source = FromStub("", "good", "total", MINUTE, stub)
        poller = Poller(source, "acme", "checkout", timedelta(hours=1), Path(directory) / "state.json", kafka.publish, Event())
        for _ in range(data.draw(st.integers(1, 8))):
            for minute, (good, bad) in data.draw(counts).items():
                stub.set(minute, good, good + bad)
            kafka.takes = data.draw(st.none() | st.integers(0, 5))
            with suppress(BusError):
                poller.run(at(5))
        kafka.takes = None
        poller.run(at(5))
    contents: dict[str, Intent] = {}
    stored: dict[datetime, RecordSLIWindow] = {}
    for intent in kafka.taken:
        assert contents.setdefault(intent.intent_id, intent) == intent
        command = intent.command
        assert isinstance(command, RecordSLIWindow)
        known = stored.get(command.start)
        assert known is None or command.revision != known.revision or command == known
        if known is None or command.revision > known.revision:
            stored[command.start] = command
    measured = source.measure(NOON, NOON + 5 * MINUTE).windows
    assert {start: Counts(command.good, command.total) for start, command in stored.items()} == measured


@dataclass(frozen=True, slots=True)
class FromStub(Source):
    """The stub's samples without HTTP."""

    stub: Stub

    def measure(self, first: datetime, end: datetime) -> Any:  # noqa: ANN401
        return count(self.stub.samples["good"], self.stub.samples["total"], first, end, self.width)


# The state file


def test_a_state_file_belongs_to_one_slo_and_width(stub: Stub, poller: Poller) -> None:
    stub.set(0, 5, 6)
    poller.run(at(1))
    for other in (("acme", "cart", 60), ("beta", "checkout", 60), ("acme", "checkout", 300)):
        with pytest.raises(PollStateError, match="is the state for SLO checkout of tenant acme in windows of 60 s"):
            load_state(poller.state_file, *other)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"tenant": "acme"}', b"\xff"])
def test_a_file_that_is_no_state_is_refused_and_kept(poller: Poller, kafka: Kafka, content: bytes) -> None:
    poller.state_file.write_bytes(content)
    with pytest.raises(PollStateError, match="is not the state of a poller"):
        poller.run(at(1))
    assert (poller.state_file.read_bytes(), kafka.taken) == (content, [])


def test_nothing_is_sent_where_the_state_cannot_be_written(stub: Stub, poller: Poller, kafka: Kafka, tmp_path: Path) -> None:
    stub.set(0, 5, 6)
    elsewhere = replace(poller, state_file=tmp_path / "missing" / "state.json")
    with pytest.raises(PollStateError, match="No such file or directory"):
        elsewhere.run(at(1))
    assert kafka.taken == []


def test_two_pollers_cannot_share_a_state(poller: Poller) -> None:
    with only_poller(poller.state_file), pytest.raises(PollStateError, match="is in use by another poller"), only_poller(poller.state_file):
        pass
    with only_poller(poller.state_file):
        pass


# The command


def options(stub: Stub, state: Path) -> list[str]:
    named = {"url": stub.url, "tenant": "acme", "slo": "checkout", "good": "good", "total": "total", "state": str(state)}
    return ["prometheus", *(f"--{name}={value}" for name, value in named.items())]


@pytest.mark.parametrize(("option", "value"), [("--width", "61"), ("--lookback", "30d"), ("--lookback", "0m"), ("--lookback", "soon")])
def test_a_wrong_option_is_named(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, value: str) -> None:
    monkeypatch.setenv("SRE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    result = CliRunner().invoke(poll.app, [*options(stub, tmp_path / "state.json"), option, value])
    assert result.exit_code == 2
    assert option in result.output
    assert stub.asked == []


def test_once_fails_where_the_query_is_wrong(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SRE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    stub.status, stub.body = 400, b'{"error": "parse error"}'
    result = CliRunner().invoke(poll.app, [*options(stub, tmp_path / "state.json"), "--once"])
    assert isinstance(result.exception, WorkerError)
    assert str(result.exception) == "Prometheus refuses the good query: 400: parse error"


def test_sigterm_ends_it_also_while_prometheus_is_away(stub: Stub, tmp_path: Path) -> None:
    stub.status, stub.body = 503, b""
    program = "from worker.cli.poll import app; app()"
    environment = {**os.environ, "SRE_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    command = [sys.executable, "-c", program, *options(stub, tmp_path / "state.json")]
    with subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[3], stderr=subprocess.PIPE) as process:
        wait_until(lambda: len(stub.asked) > 1, 30, lambda: "Prometheus is not asked")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
