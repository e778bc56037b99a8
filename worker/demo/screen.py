"""What a person sees of the demonstration, on a terminal or in a file."""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from worker.demo.asking import audible_answers
from worker.domain.slo import SLOBudgetExhausted, SLOBudgetRecovered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from worker.demo.result import Result
    from worker.demo.run import Observed
    from worker.demo.state import State
    from worker.demo.story import Story
    from worker.domain.rejection import IntentRejected
    from worker.integrations.access_log import Window
    from worker.messages import ReceivedFact
    from worker.postgres.queries import SLOView

_FILE_WIDTH: Final = 100  # of output that is no terminal
_BREACHES_SHOWN: Final = 20
_CLAIMS: Final = {
    "tansu": "Tansu. It keeps all in memory, isolates no transactions and answers waiting readers late. "
    "Exactly-once facts are claimed on Apache Kafka: try --broker apache.",
    "apache": "Apache Kafka. Here facts are exactly-once for a read_committed reader, also when worker or relay are killed.",
}
_STYLES: Final = {"exhausted": "bold red", "recovered": "green", "available": "green", "no_data": "dim"}


def open_console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_FILE_WIDTH)


def subject(windows: Sequence[Window]) -> str:
    """What the demonstration is about, in one line."""
    requests, bad = sum(window.total for window in windows), sum(window.total - window.good for window in windows)
    span = f"{windows[0].start:%a %d %b %Y %H:%M} to {windows[-1].start:%a %d %b %H:%M} UTC"
    return f"{len(windows)} minutes of a web log, {span}: {requests} requests, {bad} failed"


@contextmanager
def following(console: Console, story: Story) -> Iterator[Callable[[Observed], None]]:
    """Bars that the given function moves on; it also prints each crossing of a budget as its fact is read."""
    bars = Progress(
        TextColumn("{task.description:<17}"),
        BarColumn(40),
        TextColumn("{task.completed:>5.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        console=console,
    )
    published = bars.add_task("records published", total=len(story.all))
    answered = bars.add_task("intents answered", total=audible_answers(story.all))
    read = 0

    def show(observed: Observed) -> None:
        nonlocal read
        facts = observed.facts[read:]
        read += len(facts)
        for fact in facts:
            if crossing := describe_crossing(fact):
                console.print(f"  {fact.aggregate_id:<13} budget {crossing}")
        bars.update(published, completed=observed.published)
        bars.update(answered, completed=observed.answers)

    with bars:
        yield show


def describe_crossing(fact: ReceivedFact) -> str | None:
    """When in the log's time a budget was exhausted or recovered; None for other facts."""
    if not isinstance(fact.fact, SLOBudgetExhausted | SLOBudgetRecovered):
        return None
    word = "exhausted" if isinstance(fact.fact, SLOBudgetExhausted) else "recovered"
    return f"[{_STYLES[word]}]{word}[/] {fact.fact.budget.as_of:%a %H:%M}"


def report(state: State, observed: Observed, result: Result) -> Iterator[Table | Text | str]:
    yield budgets_table(state.slos, observed.facts)
    yield state_table(state)
    yield outcomes_table(result)
    yield rejections_table(observed.rejections)
    yield from verdict(result)


def budgets_table(slos: Sequence[SLOView], facts: Sequence[ReceivedFact]) -> Table:
    """The rows as the query service gives them, beside the crossings that were read as facts."""
    crossings: dict[str, list[str]] = defaultdict(list)
    for fact in facts:
        if crossing := describe_crossing(fact):
            crossings[fact.aggregate_id].append(crossing)
    table = _table(
        "Error budgets, in percent",
        Column("SLO", no_wrap=True),
        _number("target"),
        "window",
        "method",
        _number("consumed"),
        _number("remaining"),
        "crossings",
    )
    for slo in slos:
        table.add_row(
            slo.slo_id,
            f"{slo.target.normalize():f}",
            slo.window,
            slo.sli_spec.budgeting_method.replace("_", " "),
            f"{slo.budget_consumed:.6f}",
            f"[{_STYLES[slo.budget_status]}]{slo.current_budget_remaining:.6f}[/]",
            "\n".join(crossings[slo.slo_id]) or "none",
        )
    return table


def state_table(state: State) -> Table:
    """The other five aggregates as the query services give them, a line each."""
    table = _table("What else the record says", "aggregate", "id", _number("version"), "state")
    if incident := state.incident:
        entries = len(incident.timeline or ())
        told = f"{incident.status}, {incident.severity}, {incident.alert_count} alerts, {entries} in the timeline: {incident.title}"
        table.add_row("incident", incident.incident_id, str(incident.version), Text(told))
    for alert in state.alerts:
        told = f"{alert.status}, episode {alert.episode}, acknowledged by {alert.acknowledged_by or 'nobody'}: {alert.name}"
        table.add_row("alert", alert.alert_id, str(alert.version), Text(told))
    for runbook in state.runbooks:
        told = f"definition of version {runbook.definition_version}: {runbook.title}"
        table.add_row("runbook", runbook.runbook_id, str(runbook.version), Text(told))
    for fleet in state.fleets:
        counts = f"{fleet.healthy_count} healthy, {fleet.progressing_count} progressing, {fleet.degraded_count} degraded"
        told = f"{fleet.cluster_id}: {fleet.total_applications} applications, {counts}, {fleet.unknown_count} unknown"
        table.add_row("fleetstate", fleet.stream_id, str(fleet.version), Text(told))
    for resource, status in state.checks.items():
        table.add_row("healthcheck", resource, "", status)
    return table


def outcomes_table(result: Result) -> Table:
    """A line for each intent, and what all come to."""
    outcomes = ("facts", "no_change", "rejected")
    table = _table("Outcomes, one for each intent", "", *map(_number, ("intents", *outcomes)))
    for name, counts in result.by_intent.items():
        table.add_row(name, str(sum(counts.values())), *(str(counts.get(outcome, "")) for outcome in outcomes))
    totals = (str(result.outcomes.get(outcome, 0)) for outcome in outcomes)
    table.add_row("all", str(result.intents), *totals, style="bold")
    table.add_row("facts read", str(result.facts))
    table.add_row("records sent again, with no second outcome", str(result.repeats))
    return table


def rejections_table(rejections: Sequence[IntentRejected]) -> Table:
    """How often each code came, and what the last one said."""
    table = _table("Rejections", "code", _number("count"), "as in")
    counts = Counter(rejection.code for rejection in rejections)
    messages = {rejection.code: rejection.message for rejection in rejections}
    for code, count in sorted(counts.items()):
        table.add_row(code, str(count), Text(messages[code]))
    return table


def verdict(result: Result) -> Iterator[str | Text]:
    """The lines at the end: the latency, what the audit found, and what that means on this broker."""
    yield (
        f"Intent to fact: p50 {_ms(result.p50_ms)}, p99 {_ms(result.p99_ms)}, at {result.intents_per_second:.0f} intents/s: "
        "from the client's call to send it until a read_committed reader has its first fact; a bulk load would add its queue."
    )
    yield f"Broker: {_CLAIMS[result.broker]}"
    if not result.violations:
        yield (
            f"[bold green]The audit found no breach[/]: each of {result.intents} intents has one outcome, "
            f"each of {result.facts} facts is out once and in order."
        )
        return
    yield f"[bold red]Breaches found by the audit: {len(result.violations)}[/]"
    yield from (Text(f"  {line}") for line in result.violations[:_BREACHES_SHOWN])
    if len(result.violations) > _BREACHES_SHOWN:
        yield f"  and {len(result.violations) - _BREACHES_SHOWN} more"


def _ms(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} ms"


def _table(title: str, *columns: Column | str) -> Table:
    return Table(*columns, title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)


def _number(header: str) -> Column:
    return Column(header, justify="right", no_wrap=True)
