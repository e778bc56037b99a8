"""The figures of all runs as one table and as build/faults.json."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.faults.harness.run import Result

_MIB: Final = 1_048_576
_SHOWN: Final = 200


def figures(results: Sequence[Result], left_out: Sequence[str]) -> dict[str, Any]:
    """`left_out` are the kinds of fault that could not be brought about: nothing may be mounted, or what is mounted is too small."""
    verdicts = [result.verdict for result in results]
    kinds = Counter(entry["kind"] for result in results for entry in result.journal)
    return {
        "seeds": [result.plan.seed for result in results],
        "faults": sum(kinds.values()),
        "faults_by_kind": dict(sorted(kinds.items())),
        "left_out": list(left_out),
        "acknowledged": sum(verdict.acknowledged for verdict in verdicts),
        "indeterminate": sum(verdict.indeterminate for verdict in verdicts),
        "load_errors": dict(sum((Counter(result.load_errors) for result in results), Counter())),
        "acknowledged_without_place": [line for verdict in verdicts for line in verdict.without_place],
        "outcomes": sum(verdict.outcomes for verdict in verdicts),
        "facts_and_rejections": sum(verdict.facts_and_rejections for verdict in verdicts),
        "losses": sum(verdict.losses for verdict in verdicts),
        "doubles": sum(verdict.doubles for verdict in verdicts),
        "gaps": sum(verdict.gaps for verdict in verdicts),
        "longest_stall_seconds": round(max((result.longest_stall_seconds for result in results), default=0.0), 1),
        "longest_drain_seconds": round(max((result.drain_seconds for result in results), default=0.0), 1),
        "duration_seconds": round(sum(result.duration_seconds for result in results), 1),
        "samples": sum(result.samples for result in results),
        "exits_by_themselves": dict(sum((Counter(result.exits) for result in results), Counter())),
        "memory": {name: _memory([result.memory[name] for result in results]) for name in ("worker", "relay")},
        "breaches": [f"seed {result.plan.seed}: {line}" for result in results for line in result.verdict.breaches[:_SHOWN]],
    }


def write(report: dict[str, Any], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def table(results: Sequence[Result]) -> Table:
    shown = Table(title="Faults injected, and what became of the intents")
    for heading in ("seed", "faults", "acknowledged", "outcomes", "losses", "doubles", "gaps", "stall s", "drain s", "exits", "breaches"):
        shown.add_column(heading, justify="right")
    for result in results:
        verdict = result.verdict
        stall, drained, exits = f"{result.longest_stall_seconds:.1f}", f"{result.drain_seconds:.1f}", str(sum(result.exits.values()))
        counts = (verdict.acknowledged, verdict.outcomes, verdict.losses, verdict.doubles, verdict.gaps)
        row = [result.plan.seed, len(result.journal), *counts, stall, drained, exits, len(verdict.breaches)]
        shown.add_row(*map(str, row), style="red" if verdict.breaches else None)
    return shown


def kinds_table(report: dict[str, Any]) -> Table:
    shown = Table(title="Faults by kind")
    shown.add_column("kind")
    shown.add_column("faults", justify="right")
    for kind, number in report["faults_by_kind"].items():
        shown.add_row(kind, str(number))
    for kind in report["left_out"]:
        shown.add_row(kind, "left out")
    return shown


def _memory(runs: Sequence[Sequence[int]]) -> dict[str, Any]:
    """In MiB: of the first run's start, the last run's end, the most in any, and the most in each tenth of the last, where growth shows."""
    seen = [run for run in runs if run]
    if not seen:
        return {}
    last = seen[-1]
    tenths = (last[len(last) * tenth // 10 : len(last) * (tenth + 1) // 10] for tenth in range(10))
    return {
        "start_mib": _mib(seen[0][0]),
        "end_mib": _mib(last[-1]),
        "max_mib": _mib(max(map(max, seen))),
        "last_run_by_tenth_mib": [_mib(max(tenth)) for tenth in tenths if tenth],
    }


def _mib(size: int) -> float:
    return round(size / _MIB, 1)
