"""What is on the screen, read from a console that records."""

from __future__ import annotations

import io
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from tests.support.records import CODEC, NOW
from worker.demo import screen
from worker.demo.figures import read_figures
from worker.demo.result import conclude
from worker.demo.run import Observed
from worker.demo.state import State
from worker.demo.story import definitions
from worker.domain.slo import WINDOWS
from worker.postgres.queries import SLOView

if TYPE_CHECKING:
    from worker.audit import Evidence
    from worker.demo.result import Result
    from worker.demo.story import Story


def a_file(width: int = 100) -> Console:
    return Console(file=io.StringIO(), highlight=False, width=width)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def words_of(console: Console) -> str:
    return " ".join(text_of(console).split())


def view(slo_id: str, **changes: object) -> SLOView:
    definition = definitions()[slo_id]
    fields: dict[str, object] = {name: getattr(definition, name) for name in ("name", "description", "owner", "scope", "target", "window")}
    budget = {"budget_status": "available", "current_budget_remaining": Decimal("42.979935"), "budget_consumed": Decimal("57.020065")}
    rest = {"created_at": NOW, "updated_at": NOW, "as_of": NOW, "measured_from": None, "sli_spec": definition.sli_spec}
    return SLOView(**{"tenant_id": "demo", "slo_id": slo_id, "version": 9, **fields, **budget, **rest, **changes})  # type: ignore[arg-type]


@pytest.fixture
def result(story: Story, observed: Observed, evidence: Evidence) -> Result:
    return conclude(story, observed, evidence, CODEC, broker="tansu", seconds=12.3)


def test_the_subject_names_the_log_by_its_figures() -> None:
    assert screen.subject(read_figures()).endswith(": 7128 requests, 9 failed")
    assert screen.subject(read_figures()).startswith("369 minutes of ")


def test_budgets_show_the_rows_and_the_crossings_that_were_read(observed: Observed) -> None:
    console = a_file()
    spent = view(
        "requests-7d", budget_consumed=Decimal("126.262626"), current_budget_remaining=Decimal("-26.262626"), budget_status="exhausted"
    )
    console.print(screen.budgets_table([spent, view("ratio-7d"), view("minutes-28d")], observed.facts))
    lines = [line.split() for line in text_of(console).splitlines()]
    assert ["requests-7d", "99.9", "7d", "occurrences", "126.262626", "-26.262626", "exhausted", "Sat", "20:59"] in lines
    assert ["ratio-7d", "99", "7d", "ratio", "timeslices", "57.020065", "42.979935", "exhausted", "Sat", "21:16"] in lines
    assert ["recovered", "Sun", "03:40"] in lines
    assert ["minutes-28d", "99.5", "28d", "timeslices", "57.020065", "42.979935", "none"] in lines


@pytest.mark.parametrize("width", [80, 100, 200])
def test_no_figure_of_a_budget_is_cut_short(width: int, observed: Observed) -> None:
    console = a_file(width)
    slos = [view(slo_id, window=window) for slo_id in definitions() for window in WINDOWS]
    console.print(screen.budgets_table(slos, observed.facts))
    assert "…" not in text_of(console)
    assert max(map(len, text_of(console).splitlines())) <= width


def test_counts_are_those_of_the_result(result: Result) -> None:
    console = a_file()
    console.print(screen.outcomes_table(result))
    words = words_of(console)
    assert f"all {result.intents} {result.outcomes['facts']} 10 {result.outcomes['rejected']}" in words
    windows = result.by_intent["RecordSLIWindow"]
    assert f"RecordSLIWindow {sum(windows.values())} {windows['facts']} 9 {windows['rejected']}" in words
    assert "MergeIncidents 1 1 " in words
    assert f"facts read {result.facts}" in words


def test_rejections_are_counted_by_code_with_what_one_of_them_said(observed: Observed) -> None:
    console = a_file()
    bracketed = replace(observed.rejections[0], code="LIMIT_EXCEEDED", message="steps[2] has [bold]too much[/bold]")
    console.print(screen.rejections_table([*observed.rejections, bracketed]))
    words = words_of(console)
    assert "SLI_COUNTS_INVALID 9 good must be at most total" in words
    assert "LIMIT_EXCEEDED 1 steps[2] has [bold]too much[/bold]" in words


def test_the_verdict_of_a_sound_run_names_what_was_checked_and_the_broker(result: Result) -> None:
    console = a_file(1000)
    for line in screen.verdict(result):
        console.print(line)
    text = text_of(console)
    assert f"no breach: each of {result.intents} intents has one outcome, each of {result.facts} facts is out once" in text
    assert "p50 250.0 ms, p99 250.0 ms" in text
    assert "Tansu" in text
    assert "claimed on Apache Kafka" in text


def test_breaches_are_shown_up_to_a_number(result: Result) -> None:
    console = a_file()
    for line in screen.verdict(replace(result, broker="apache", p50_ms=None, violations=[f"4: breach {number}." for number in range(25)])):
        console.print(line)
    text = text_of(console)
    assert "Breaches found by the audit: 25" in text
    assert "4: breach 19." in text
    assert "4: breach 20." not in text
    assert "and 5 more" in text
    assert "p50 unknown" in text
    assert "no breach" not in text


def test_while_it_runs_each_crossing_is_said_once_and_the_bars_end_full(story: Story, observed: Observed) -> None:
    console = a_file()
    with screen.following(console, story) as show:
        show(Observed())
        show(Observed(published=10, facts=observed.facts[:1000]))
        show(observed)
        show(observed)
    text = text_of(console)
    assert text.count("ratio-7d      budget exhausted Sat 21:16") == 1
    assert text.count("budget exhausted") + text.count("budget recovered") == sum(
        screen.describe_crossing(fact) is not None for fact in observed.facts
    )
    assert f"{len(story.all)}/{len(story.all)}" in text
    assert f"{observed.answers}/{observed.answers}" in text


def test_a_file_gets_no_control_codes(story: Story, observed: Observed, result: Result, capsys: pytest.CaptureFixture[str]) -> None:
    console = screen.open_console()
    with screen.following(console, story) as show:
        show(observed)
    for part in screen.report(State(slos=[view("ratio-7d")]), observed, result):
        console.print(part)
    text = capsys.readouterr().out
    assert "Error budgets" in text
    assert "\x1b" not in text
    assert "\r" not in text
