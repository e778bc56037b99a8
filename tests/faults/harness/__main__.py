"""`python -m tests.faults.harness faults --seeds "1 2 3"` or `soak --hours 1`: exits with 1 where anything was lost, doubled or broken."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from tests.faults.harness import report
from tests.faults.harness.disk import own_mounts, small_disk
from tests.faults.harness.run import Plan, Result, run, save
from tests.faults.harness.schedule import Kind, schedule

if TYPE_CHECKING:
    from collections.abc import Sequence

BUILD = Path("build")
DISK_MEBIBYTES = 640
BYTES_AN_INTENT = 5_000  # in Kafka, PostgreSQL and the sorted files of the check, together
KEPT_LOGS = ("*.log", "kafka/*.log")
SOAK_TENANTS, SOAK_SLOS = 64, 20
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(width=None if sys.stdout.isatty() else 140)


@app.command()
def faults(
    seeds: Annotated[str, typer.Option(help="Seeds, with blanks between them; each is a run of its own.")] = "1 2 3",
    seconds: Annotated[float, typer.Option(help="How long a run is under load.")] = 40,
    rate: Annotated[float, typer.Option(help="Intents a second.")] = 250,
    every: Annotated[float, typer.Option(help="Seconds for each fault.")] = 4,
) -> None:
    """Short runs, one for each seed."""
    kinds, left_out = _kinds(can_fill_disk=own_mounts())
    results: list[Result] = []
    for seed in map(int, seeds.split()):
        planned = schedule(seed, seconds=seconds, every_seconds=every, kinds=kinds)
        disk = DISK_MEBIBYTES if any(fault.kind is Kind.DISK_FULL for fault in planned) else None
        results.append(_run(Plan(seed=seed, seconds=seconds, rate=rate, faults=planned), disk))
        _tell(results, left_out)
    _end(results)


@app.command()
def soak(
    hours: Annotated[float, typer.Option(help="How long.")] = 1,
    rate: Annotated[float, typer.Option(help="Intents a second.")] = 2_000,
    every: Annotated[float, typer.Option(help="Seconds for each fault.")] = 10,
    seed: Annotated[int, typer.Option(help="Which schedule.")] = 1,
) -> None:
    """One long run under load."""
    kinds = set(Kind) - {Kind.DISK_FULL}  # a small file system can't hold what an hour comes to
    seconds = hours * 3600
    _require_room(seconds * rate)
    planned = schedule(seed, seconds=seconds, every_seconds=every, kinds=kinds)
    plan = Plan(seed=seed, seconds=seconds, rate=rate, faults=planned, tenants=SOAK_TENANTS, slos=SOAK_SLOS, drain_seconds=900)
    results = [_run(plan, None)]
    _tell(results, [Kind.DISK_FULL])
    _end(results)


def _require_room(intents: float) -> None:
    room, needed = shutil.disk_usage(tempfile.gettempdir()).free, intents * BYTES_AN_INTENT
    if room < needed:
        console.print(
            f"this needs {needed / 1e9:.0f} GB in {tempfile.gettempdir()}, and {room / 1e9:.0f} are free: ask for less", style="red"
        )
        raise typer.Exit(1)


def _kinds(*, can_fill_disk: bool) -> tuple[set[Kind], list[Kind]]:
    left_out = [] if can_fill_disk else [Kind.DISK_FULL]
    return set(Kind) - set(left_out), left_out


def _run(plan: Plan, disk_mebibytes: int | None) -> Result:
    console.rule(f"seed {plan.seed}: {len(plan.faults)} faults in {plan.seconds:.0f} s, {plan.rate:.0f} intents/s")
    kept = BUILD / f"faults-{plan.seed}"
    shutil.rmtree(kept, ignore_errors=True)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sre-domain-faults-")))
        directory.chmod(0o755)
        disk = None if disk_mebibytes is None else stack.enter_context(small_disk(directory / "disk", disk_mebibytes))
        try:
            result = run(Plan(**{**_fields(plan), "disk": disk}), directory, lambda line: console.print(f"  {line}", style="dim"))
        except BaseException:
            _keep(directory, kept)
            raise
        if result.verdict.breaches or result.exits:
            _keep(directory, kept)
            save(result, kept)
        if result.verdict.breaches:
            _tell_of_failure(result, kept)
    return result


def _fields(plan: Plan) -> dict[str, Any]:
    return {name: getattr(plan, name) for name in Plan.__dataclass_fields__}


def _keep(directory: Path, kept: Path) -> None:
    kept.mkdir(parents=True, exist_ok=True)
    for pattern in KEPT_LOGS:
        for log in directory.glob(pattern):
            shutil.copy(log, kept)


def _tell_of_failure(result: Result, kept: Path) -> None:
    console.print(f"seed {result.plan.seed} failed; its logs are in {kept}", style="red")
    for fault in result.plan.faults:
        console.print(f"  {json.dumps(asdict(fault))}", highlight=False)
    for line in result.verdict.breaches[:20]:
        console.print(f"  {line}", style="red", markup=False)


def _tell(results: Sequence[Result], left_out: Sequence[Kind]) -> None:
    report.write(report.figures(results, left_out), BUILD / "faults.json")


def _end(results: Sequence[Result]) -> None:
    figures = json.loads((BUILD / "faults.json").read_text(encoding="utf-8"))
    console.print(report.kinds_table(figures), report.table(results))
    console.print_json(data={name: figures[name] for name in ("longest_stall_seconds", "exits_by_themselves", "memory", "samples")})
    if figures["breaches"]:
        raise typer.Exit(1)


if __name__ == "__main__":
    logging.getLogger("librdkafka").setLevel(logging.CRITICAL)  # the servers it complains of are away on purpose
    app()
