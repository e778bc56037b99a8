"""OpenSLO documents: what becomes an SLO, and what is refused, by file, line, name and field."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any, Self

import pytest
import typer
import yaml
from typer.testing import CliRunner, Result

from worker.cli import import_openslo
from worker.client import BusError, Intent
from worker.domain.aggregate import AGGREGATES
from worker.domain.outcome import NO_CHANGE, Context
from worker.domain.rejection import RejectionCode
from worker.domain.slo import CreateSLO, UpdateSLO
from worker.errors import WorkerError
from worker.integrations.located_yaml import MAX_BYTES
from worker.integrations.openslo import Reading, read_openslo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DATA = Path(__file__).parent / "data" / "openslo"

SLO = """\
apiVersion: openslo/v1
kind: SLO
metadata:
  name: checkout-availability
  displayName: Checkout availability
  labels:
    owner: team-checkout
spec:
  description: Requests that were answered.
  service: checkout
  indicator:
    metadata:
      name: answered
    spec:
      ratioMetric:
        counter: true
        good:
          metricSource:
            type: Prometheus
            spec:
              query: sum(increase(http_requests_total{code!~"5.."}[1m]))
        total:
          metricSource:
            type: Prometheus
            spec:
              query: |
                sum(increase(http_requests_total[1m]))
  timeWindow:
    - duration: 28d
      isRolling: true
  budgetingMethod: Occurrences
  objectives:
    - displayName: Three nines
      target: 0.999
  alertPolicies:
    - alertPolicyRef: fast-burn
"""

SLI = """\
apiVersion: openslo/v1
kind: SLI
metadata:
  name: answered
spec:
  ratioMetric:
    good: {metricSource: {type: Prometheus, spec: {query: good_total}}}
    total: {metricSource: {type: Prometheus, spec: {query: requests_total}}}
"""


def read(*contents: str | bytes, owner: str | None = None, name: str = "slo.yaml") -> Reading:
    files = [(name if len(contents) == 1 else f"{number}.yaml", content) for number, content in enumerate(contents, 1)]
    return read_openslo([(file, c if isinstance(c, bytes) else c.encode()) for file, c in files], CreateSLO, "ann", owner)


def only(reading: Reading) -> CreateSLO:
    assert reading.refusals == ()
    (definition,) = reading.definitions
    assert isinstance(definition.command, CreateSLO)
    return definition.command


def refusals(*contents: str | bytes) -> list[str]:
    reading = read(*contents)
    return [str(refusal) for refusal in reading.refusals]


def changed(old: str, new: str) -> str:
    assert SLO.count(old) == 1, old
    return SLO.replace(old, new)


def test_a_document_becomes_a_definition() -> None:
    command = only(read(SLO))
    assert (command.name, command.owner, command.scope, command.actor) == ("Checkout availability", "team-checkout", "checkout", "ann")
    assert (command.description, command.target, command.window) == ("Requests that were answered.", Decimal("99.9"), "28d")
    spec = command.sli_spec
    assert (spec.budgeting_method, spec.slice_seconds, spec.slice_target) == ("occurrences", None, None)
    assert spec.good == 'sum(increase(http_requests_total{code!~"5.."}[1m]))'
    assert spec.total == "sum(increase(http_requests_total[1m]))"


def test_the_name_of_the_object_is_the_id() -> None:
    assert [definition.slo_id for definition in read(SLO).definitions] == ["checkout-availability"]


def test_an_update_has_the_same_fields() -> None:
    (definition,) = read_openslo([("slo.yaml", SLO.encode())], UpdateSLO, "ann").definitions
    assert isinstance(definition.command, UpdateSLO)
    assert definition.command.expected_version is None
    assert definition.command.target == Decimal("99.9")


@pytest.mark.parametrize("duration", ["7d", "1w", "28d", "4w", "30d"])
def test_rolling_windows_of_7_28_and_30_days_in_any_writing(duration: str) -> None:
    assert only(read(changed("28d", duration))).window == {"1w": "7d", "4w": "28d"}.get(duration, duration)


@pytest.mark.parametrize("duration", ["2w", "90d", "1M", "Week", "28 d"])
def test_any_other_window_is_refused(duration: str) -> None:
    (refusal,) = refusals(changed("duration: 28d", f"duration: {duration}"))
    assert refusal.startswith(f"slo.yaml:29: checkout-availability: spec.timeWindow[0].duration: {duration} is not supported; rolling")


@pytest.mark.parametrize(
    ("new", "line"),
    [
        ("isRolling: false", 30),
        ("calendar: {startTime: 2026-01-01 00:00:00, timeZone: UTC}", 29),
        ("isRolling: false\n      calendar: {startTime: 2026-01-01 00:00:00, timeZone: UTC}", 30),
    ],
)
def test_calendar_windows_are_refused(new: str, line: int) -> None:
    (refusal,) = refusals(changed("isRolling: true", new))
    assert refusal.startswith(f"slo.yaml:{line}: checkout-availability: spec.timeWindow[0].isRolling: calendar-aligned windows")


def test_a_window_that_does_not_say_is_rolling() -> None:
    assert only(read(changed("      isRolling: true\n", ""))).window == "28d"


@pytest.mark.parametrize(
    ("written", "percent"),
    [
        ("target: 0.999", "99.9"),
        ("target: .95", "95"),
        ("target: 0.99999999", "99.999999"),
        ("targetPercent: 99.9", "99.9"),
        ("targetPercent: 99", "99"),
        ('target: "0.5"', "50"),
    ],
)
def test_targets_are_exact(written: str, percent: str) -> None:
    assert only(read(changed("target: 0.999", written))).target == Decimal(percent)


@pytest.mark.parametrize(
    ("written", "field", "fault"),
    [
        ("target: 99.9", "target", "99.9 is more than 1: write 0.999 for 99.9 percent, or targetPercent"),
        ("target: 0,999", "target", "0,999 is not a decimal number of at most 20 characters"),
        ("target: 99.9%", "target", "99.9% is not a decimal number of at most 20 characters"),
        ("target: .nan", "target", ".nan is not a decimal number of at most 20 characters"),
        ("target: -0.1", "target", "-0.1 is not a decimal number of at most 20 characters"),
        ("target: 0.999999999999999999999", "target", "0.999999999999999999999 is not a decimal number of at most 20 characters"),
        ("target: [0.999]", "target", "must be a single value"),
        ("target: 0.999999999", "target", "must have at most 6 digits after the point"),
        ("target: 1", "target", "must lie between 0 and 100"),
        ("target: 0", "target", "must lie between 0 and 100"),
        ("targetPercent: 100", "targetPercent", "must lie between 0 and 100"),
        ("targetPercent: 0.999", "targetPercent", "0.999 reads as a ratio: write target: 0.999, or target: 0.00999 if it is none"),
        ("target:", "target", "is missing, and so is targetPercent"),
        ("traget: 0.999", "traget", "is not known: target is meant?"),
        ("target: 0.9\n      target: 0.999", "target", "is given twice"),
        ("target: 0.9\n      targetPercent: 90", "targetPercent", "can't be given with target"),
        ("target: 0.9\n      timeSliceWindow: 1m", "timeSliceWindow", "means nothing for Occurrences: remove it"),
        ("target: 0.9\n      compositeWeight: 1", "compositeWeight", "composite SLOs are not supported"),
    ],
)
def test_a_wrong_objective_is_named_with_its_line(written: str, field: str, fault: str) -> None:
    text = changed("target: 0.999", written)
    line = text[: text.rindex(f"{field}:")].count("\n") + 1 if written != "target:" else 33
    assert f"slo.yaml:{line}: checkout-availability: spec.objectives[0].{field}: {fault}" in refusals(text)


def test_several_objectives_are_refused() -> None:
    assert refusals(changed("      target: 0.999\n", "      target: 0.999\n    - target: 0.99\n")) == [
        "slo.yaml:35: checkout-availability: spec.objectives: has 2 items, and only one is supported: write an SLO for each"
    ]


@pytest.mark.parametrize(("written", "seconds"), [("1m", 60), ("5m", 300), ("1", 60), ("5", 300)])
def test_timeslices(written: str, seconds: int) -> None:
    text = changed("Occurrences", "Timeslices").replace(
        "target: 0.999", f"target: 0.999\n      timeSliceTarget: 0.95\n      timeSliceWindow: {written}"
    )
    spec = only(read(text)).sli_spec
    assert (spec.budgeting_method, spec.slice_seconds, spec.slice_target) == ("timeslices", seconds, Decimal(95))


def test_ratio_timeslices_need_no_slice_target() -> None:
    text = changed("Occurrences", "RatioTimeslices").replace("target: 0.999", "target: 0.999\n      timeSliceWindow: 5m")
    spec = only(read(text)).sli_spec
    assert (spec.budgeting_method, spec.slice_seconds, spec.slice_target) == ("ratio_timeslices", 300, None)


def test_slices_without_their_settings_and_of_other_lengths_are_refused() -> None:
    assert refusals(changed("Occurrences", "Timeslices")) == [
        "slo.yaml:33: checkout-availability: spec.objectives[0].timeSliceWindow: is missing",
        "slo.yaml:33: checkout-availability: spec.objectives[0].timeSliceTarget: is missing",
    ]
    text = changed("Occurrences", "RatioTimeslices").replace("target: 0.999", "target: 0.999\n      timeSliceWindow: 10m")
    (refusal,) = refusals(text)
    assert refusal == "slo.yaml:35: checkout-availability: spec.objectives[0].timeSliceWindow: 10m is not supported, only 1m and 5m are"


def test_an_unknown_method_is_refused() -> None:
    assert refusals(changed("Occurrences", "occurrences")) == [
        "slo.yaml:31: checkout-availability: spec.budgetingMethod: occurrences is not one of Occurrences, Timeslices, RatioTimeslices"
    ]


def test_an_sli_is_found_by_name_in_any_of_the_files() -> None:
    start, end = SLO.index("  indicator:"), SLO.index("  timeWindow:")
    by_name = SLO[:start] + "  indicatorRef: answered\n" + SLO[end:]
    spec = only(read(by_name, SLI)).sli_spec
    assert (spec.good, spec.total) == ("good_total", "requests_total")
    assert refusals(by_name) == ["slo.yaml:11: checkout-availability: spec.indicatorRef: no SLI of these files has the name answered"]
    broken = SLI.replace("requests_total", '""')
    assert refusals(by_name, broken) == ["2.yaml:8: answered: spec.ratioMetric.total: must not be blank"]
    assert refusals(by_name, SLI, SLI) == ["3.yaml:4: answered: metadata.name: another SLI of these files has this name"]


def test_bad_events_are_taken_from_all() -> None:
    good = changed("        good:", "        bad:")
    spec = only(read(good)).sli_spec
    assert spec.good == '(sum(increase(http_requests_total[1m]))) - (sum(increase(http_requests_total{code!~"5.."}[1m])))'


def test_a_source_without_a_query_is_kept_whole() -> None:
    text = changed('query: sum(increase(http_requests_total{code!~"5.."}[1m]))', "metric: {name: latency, max: 0.2}")
    assert json.loads(only(read(text)).sli_spec.good) == {
        "type": "Prometheus",
        "spec": {"metric": {"name": "latency", "max": "0.2"}},
    }


@pytest.mark.parametrize(
    ("old", "new", "refusal"),
    [
        (
            "ratioMetric:",
            "ratioMetrics:",
            ":15: checkout-availability: spec.indicator.spec.ratioMetrics: is not known: ratioMetric is",
        ),
        ("ratioMetric:", "thresholdMetric:", ":15: checkout-availability: spec.indicator.spec.thresholdMetric: is not supported"),
        ("        good:", "        raw:", ":17: checkout-availability: spec.indicator.spec.ratioMetric.raw: is not supported"),
        ("  service: checkout\n", "", ":9: checkout-availability: spec.service: is missing"),
        ("  service: checkout", "  service: [a]", ":10: checkout-availability: spec.service: must be a single value"),
        ("  service: checkout", "  service: '  '", ":10: checkout-availability: spec.service: must not be blank"),
        ("    owner: team-checkout", "    tier: 1", ":7: checkout-availability: metadata.labels.owner: is missing, and so is team"),
        ("name: checkout-availability", "name: Checkout_1", ":4: Checkout_1: metadata.name: must be lowercase letters and digits"),
        ("name: checkout-availability", "name: ", ":4: document 1: metadata.name: is missing"),
        (
            "apiVersion: openslo/v1",
            "apiVersion: openslo/v1alpha",
            ":1: checkout-availability: apiVersion: openslo/v1alpha is not supported",
        ),
        ("apiVersion: openslo/v1\n", "", ":1: checkout-availability: apiVersion: is missing: this is no OpenSLO document"),
        ("Requests that were answered.", '"a\\0b"', ":9: checkout-availability: spec.description: must not hold control characters"),
        ("Requests that were answered.", "x" * 10_001, ":9: checkout-availability: spec.description: must have at most 10000 characters"),
        ("Checkout availability", "x" * 201, ":5: checkout-availability: metadata.displayName: must have at most 200 characters"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(old: str, new: str, refusal: str) -> None:
    found = refusals(changed(old, new))
    assert any(text.startswith(f"slo.yaml{refusal}") for text in found), found


def test_owners_come_from_labels_and_else_from_the_run() -> None:
    assert only(read(changed("owner: team-checkout", "team: [identity, rbac]"))).owner == "identity, rbac"
    assert only(read(changed("owner: team-checkout", "tier: 1"), owner="sre")).owner == "sre"
    assert only(read(SLO, owner="sre")).owner == "team-checkout"


def test_every_fault_of_every_document_is_told_at_once() -> None:
    second = changed("checkout-availability", "Second").replace("28d", "2w").replace("0.999", "99.9")
    found = refusals(SLO + "---\n" + second, "kind: SLO\n", "a: [")
    lines = [f"1.yaml:{SLO.count(chr(10)) + 1 + line}" for line in (4, 29, 34)]
    assert [refusal.partition(": ")[0] for refusal in found] == [*lines, "2.yaml:1", "3.yaml:2"]


def test_two_slos_of_one_name_are_refused_both() -> None:
    assert refusals(SLO, SLO) == [
        f"{number}.yaml:3: checkout-availability: metadata: 2 SLOs of these files have this name" for number in (1, 2)
    ]


def test_documents_lists_and_json_are_read_alike() -> None:
    document = yaml.safe_load(SLO)
    expected = only(read(SLO))
    assert only(read(f"---\n{SLO}---\n---\n")) == expected
    assert only(read(json.dumps([document]))) == expected
    assert only(read(json.dumps(document, indent="\t"), name="slo.json")) == expected
    assert only(read(b"\xef\xbb\xbf" + SLO.encode())) == expected


def test_other_kinds_are_skipped_and_named() -> None:
    reading = read("apiVersion: openslo/v1\nkind: Service\nmetadata: {name: web}\n")
    assert [str(note) for note in reading.skipped] == ["slo.yaml:1: web: kind Service defines no SLO"]
    assert (reading.definitions, reading.refusals) == ((), ())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a: &a [x]\nb: *a\n", ":1: the file: anchors and aliases are not supported"),
        ("a: 1\nb: *a\n", ":2: the file: anchors and aliases are not supported"),
        ("[" * 200 + "]" * 200, ":1: the file: is nested more than 100 levels deep"),
        ("[" * 1_000_000, ":1: the file: is n"),
        ("[" + "[]," * 300_000 + "]", ":1: the file: has more than 300000 values"),
        (b" " * (MAX_BYTES + 1), ":1: the file: is larger than 4 MiB"),
        (b"a: 1\nb: \xff\n", ":2: the file: is not UTF-8"),
        (b"a: 1\nb: \0\n", ":2: the file: is not YAML"),
        ("a: 1\n\tb: 2\n", ":2: the file: is not YAML"),
        ("a: {\n", ":2: the file: is not YAML"),
        ("!!python/object/apply:os.system [exit]", ":1: document 1: the document: must be a mapping"),
        ("text", ":1: document 1: the document: must be a mapping"),
        ("? [a, b]\n: c\n", ":1: document 1: apiVersion: is missing"),
    ],
    ids=["anchor", "alias", "deep", "bottomless", "wide", "large", "latin-1", "nul", "tab", "cut", "tag", "scalar", "complex key"],
)
def test_what_is_no_document_is_refused_quickly(content: str | bytes, says: str) -> None:
    began = time.process_time()
    (refusal,) = refusals(content)
    assert refusal.startswith(f"slo.yaml{says}")
    assert time.process_time() - began < 10


def test_no_fault_is_more_than_one_line() -> None:
    found = refusals(changed("target: 0.999", '"tar\\e[31m\\nget": 0.999'))
    assert all(text.isprintable() for text in found)


def test_a_document_that_comes_again_changes_only_what_differs() -> None:
    context = Context("acme", "checkout-availability", datetime(2026, 3, 2, tzinfo=UTC))

    def decide(text: str, command: type[CreateSLO | UpdateSLO], slo: object) -> Any:  # noqa: ANN401 - any outcome
        (definition,) = read_openslo([("slo.yaml", text.encode())], command, "ann").definitions
        return AGGREGATES["slo"].decide(slo, definition.command, context)

    (created,) = decide(SLO, CreateSLO, None)
    slo = AGGREGATES["slo"].evolve(None, created, context)
    assert decide(SLO, CreateSLO, slo).code is RejectionCode.SLO_ALREADY_EXISTS
    assert decide(SLO, UpdateSLO, None).code is RejectionCode.SLO_NOT_FOUND
    assert decide(SLO, UpdateSLO, slo) is NO_CHANGE
    assert decide(changed("query: |", "query: >-"), UpdateSLO, slo) is NO_CHANGE
    (stricter,) = decide(changed("0.999", "0.9999"), UpdateSLO, slo)
    assert (stricter.target, stricter.budget_restarted) == (Decimal("99.99"), False)
    (measured_anew,) = decide(changed('"5.."', '"5..|429"'), UpdateSLO, slo)
    assert measured_anew.budget_restarted


REAL = {
    "slogen-v1-alert-policy-burn-rate": [(1, "kind AlertPolicy defines no SLO")],
    "slogen-v1-logs-req-calendar": [
        (4, "metadata.name"),
        (4, "metadata.labels.owner"),
        (36, "spec.timeWindow[0].duration"),
        (37, "spec.timeWindow[0].isRolling"),
    ],
    "slogen-v1-logs-req-rolling": [(4, "metadata.name"), (7, "metadata.labels.owner"), (44, "spec.timeWindow[0].calendar")],
    "slogen-v1-th-based-logs-req-threshold-based": [
        (4, "metadata.name"),
        (4, "metadata.labels.owner"),
        (17, "spec.indicator.spec.thresholdMetric"),
        (33, "spec.timeWindow[0].duration"),
        (37, "spec.timeWindow[0].isRolling"),
    ],
    "slogen-v1-th-based-logs-window-threshold-based": [
        (4, "metadata.name"),
        (4, "metadata.labels.owner"),
        (17, "spec.indicator.spec.thresholdMetric"),
        (35, "spec.timeWindow[0].duration"),
        (39, "spec.timeWindow[0].isRolling"),
        (41, "spec.objectives[0].timeSliceWindow"),
        (41, "spec.objectives[0].timeSliceTarget"),
    ],
}


@pytest.mark.parametrize("file", sorted(DATA.glob("*.yaml")), ids=lambda file: file.stem)
def test_real_documents(file: Path) -> None:
    reading = read(file.read_bytes())
    assert reading.definitions == ()
    found = [(note.line, note.text.partition(":")[0]) for note in (*reading.refusals, *reading.skipped)]
    assert found == REAL[file.stem]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Intent]:
    """What was published, in order; Kafka stands aside."""
    intents: list[Intent] = []

    class Publisher:
        def __init__(self, _: object) -> None:
            pass

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def publish(self, batch: Iterable[Intent]) -> None:
            intents.extend(batch)

    monkeypatch.setenv("SRE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setattr(import_openslo, "IntentPublisher", Publisher)
    return intents


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    app = typer.Typer()
    app.command()(import_openslo.openslo)

    def invoke(*documents: str, options: tuple[str, ...] = ()) -> Result:
        files = []
        for number, document in enumerate(documents, 1):
            file = tmp_path / f"{number}.yaml"
            file.write_text(document)
            files.append(str(file))
        return CliRunner().invoke(app, [*files, "--tenant", "acme", *options])

    return invoke


Run = Any


def test_each_slo_is_one_intent(run: Run, sent: list[Intent]) -> None:
    before = datetime.now(UTC)
    result = run(SLO, changed("checkout-availability", "second"))
    assert (result.exit_code, result.output) == (0, "2 CreateSLORequested published\n")
    assert [(intent.name, intent.tenant_id, intent.aggregate_id) for intent in sent] == [
        ("CreateSLORequested", "acme", "checkout-availability"),
        ("CreateSLORequested", "acme", "second"),
    ]
    assert len({intent.time for intent in sent}) == 1
    assert before <= sent[0].time <= datetime.now(UTC)


def test_update_changes_slos_that_exist(run: Run, sent: list[Intent]) -> None:
    assert run(SLO, options=("--update",)).exit_code == 0
    assert [(intent.name, type(intent.command)) for intent in sent] == [("UpdateSLORequested", UpdateSLO)]


def test_the_same_documents_at_the_same_time_are_the_same_intents(run: Run, sent: list[Intent]) -> None:
    at = ("--time", "2026-11-24T12:00:00Z")
    run(SLO, options=at)
    run(SLO, options=at)
    assert sent[0] == sent[1]


@pytest.mark.parametrize(
    ("document", "options"),
    [
        (changed("0.999", "0.99"), ("--time", "2026-11-24T12:00:00Z")),
        (SLO, ("--time", "2026-11-24T12:00:01Z")),
        (SLO, ("--time", "2026-11-24T12:00:00Z", "--update")),
    ],
    ids=["content", "time", "kind"],
)
def test_what_differs_has_another_id(run: Run, sent: list[Intent], document: str, options: tuple[str, ...]) -> None:
    run(SLO, options=("--time", "2026-11-24T12:00:00Z"))
    run(document, options=options)
    assert sent[0].intent_id != sent[1].intent_id


def test_nothing_is_sent_where_anything_is_refused(run: Run, sent: list[Intent], tmp_path: Path) -> None:
    result = run(SLO, changed("checkout-availability", "second").replace("28d", "2w"))
    assert isinstance(result.exception, WorkerError)
    first, second = str(result.exception).splitlines()
    assert first == "nothing was sent:"
    assert second.startswith(f"{tmp_path / '2.yaml'}:29: second: spec.timeWindow[0].duration: 2w is not supported; ")
    assert sent == []


def test_a_file_that_is_not_there_is_one_line(run: Run, sent: list[Intent]) -> None:
    result = run(SLO, options=("missing.yaml",))
    assert isinstance(result.exception, WorkerError)
    assert str(result.exception) == "missing.yaml: No such file or directory"
    assert sent == []


@pytest.mark.usefixtures("sent")
def test_skipped_objects_are_named(run: Run, tmp_path: Path) -> None:
    result = run(
        dedent("""\
        apiVersion: openslo/v1
        kind: Service
        metadata: {name: web}
    """)
    )
    assert result.output.splitlines() == [
        f"{tmp_path / '1.yaml'}:1: web: kind Service defines no SLO (skipped)",
        "0 CreateSLORequested published",
    ]


@pytest.mark.usefixtures("sent")
def test_a_wrong_time_is_named(run: Run) -> None:
    result = run(SLO, options=("--time", "yesterday"))
    assert result.exit_code == 2
    assert "--time" in result.output


def test_a_failed_delivery_tells_how_to_repeat_the_run(run: Run, sent: list[Intent], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object, batch: Iterable[Intent]) -> None:
        sent.extend(batch)
        raise BusError("Kafka is away")

    monkeypatch.setattr("worker.cli.import_openslo.IntentPublisher.publish", fail)
    result = run(SLO)
    assert isinstance(result.exception, WorkerError)
    message, _, time = str(result.exception).rpartition(" ")
    assert message == "Kafka is away; repeat the run with --time"
    run(SLO, options=("--time", time))
    assert sent[0] == sent[1]
