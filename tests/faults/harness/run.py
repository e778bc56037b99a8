"""One run from beginning to end: topology, load, faults by the schedule, drain, verdict."""

from __future__ import annotations

import json
import random
import threading
import time
from concurrent.futures import wait
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.faults.harness.checker import Verdict, check
from tests.faults.harness.cluster import HONEST, running_cluster
from tests.faults.harness.drain import drain
from tests.faults.harness.faults import inject
from tests.faults.harness.intents import publications, tenant_names
from tests.faults.harness.load import Load
from tests.faults.harness.proxy import Mode
from tests.faults.harness.samples import Offsets, Samples
from tests.faults.harness.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from tests.faults.harness.cluster import Cluster
    from tests.faults.harness.schedule import Fault

_TICK_SECONDS: Final = 0.1
_HEAL_SECONDS: Final = 400  # above what a broker may take to recover


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run is made of. `disk` is a small file system for PostgreSQL's data, `programs` other programs than the honest ones."""

    seed: int
    seconds: float
    rate: float
    faults: Sequence[Fault]
    tenants: int = 4
    slos: int = 10
    disk: Path | None = None
    programs: Mapping[str, Sequence[str]] = field(default_factory=lambda: HONEST)
    drain_seconds: float = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    plan: Plan
    verdict: Verdict
    duration_seconds: float
    drain_seconds: float
    longest_stall_seconds: float
    samples: int
    exits: Mapping[str, int]
    memory: Mapping[str, Sequence[int]]
    load_errors: Mapping[str, int]
    journal: Sequence[Mapping[str, Any]]


def run(plan: Plan, directory: Path, say: Callable[[str], None] = lambda _: None) -> Result:
    """`directory` takes data and logs; `say` gets a line for each thing that happens."""
    began = time.monotonic()

    def tell(what: str) -> None:
        say(f"{what}, {time.monotonic() - began:.1f} s after the start")

    with running_cluster(directory, disk=plan.disk, programs=plan.programs) as cluster, ExitStack() as stack:
        settings = cluster.settings
        offsets, sampled = (stack.enter_context(closing(Offsets(settings))) for _ in range(2))
        watcher, samples = Watcher(settings), Samples(cluster, sampled)
        stream = publications(plan.seed, tenants=plan.tenants, slos=plan.slos)
        load = Load(settings=settings, publications=stream, rate=plan.rate, chance=random.Random(plan.seed))  # noqa: S311
        for work, stopping in ((watcher.run, watcher.stopping), (samples.run, samples.stopping)):
            stack.enter_context(running(work, stopping))
        tell("topology is up")
        with running(load.run, load.stopping):
            journal = _play(plan, cluster, load, watcher, say)
            tell("faults are over, load stops")
        draining = time.monotonic()
        left = drain(cluster, offsets, watcher, plan.drain_seconds)
        drained = time.monotonic() - draining
        tell(f"drained in {drained:.1f} s")
        samples.take()
        samples.stopping.set()
        watcher.stopping.set()
        tenants = tenant_names(plan.tenants)
        verdict = check(settings, load.acknowledged, watcher, tenants, directory)
        verdict.breaches = [*left, *dict.fromkeys(samples.breaches), *verdict.breaches, *too_little(verdict.acknowledged, plan)]
        tell("checked")
    return Result(
        plan=plan,
        verdict=verdict,
        duration_seconds=time.monotonic() - began,
        drain_seconds=drained,
        longest_stall_seconds=watcher.longest_stall_seconds,
        samples=samples.taken,
        exits=cluster.exits,
        memory=samples.memory,
        load_errors=load.failures,
        journal=journal,
    )


def too_little(acknowledged: int, plan: Plan) -> list[str]:
    """A run whose client was stuck has shown nothing, however clean it looks; faults may cost more than half of what was to be asked."""
    asked = plan.rate * plan.seconds
    return [f"load: {acknowledged} acknowledged of the {asked:.0f} to be asked"] if acknowledged < 0.4 * asked else []


def _play(plan: Plan, cluster: Cluster, load: Load, watcher: Watcher, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Bring the faults about, each at its moment, and see that all are over; what happened when, in seconds of the load."""
    began = time.monotonic()
    journal: list[dict[str, Any]] = []
    under_way: list[Future[None]] = []

    def bring_about(fault: Fault) -> None:
        entry = {**asdict(fault), "began": round(time.monotonic() - began, 3)}
        journal.append(entry)
        say(f"{entry['began']:6.1f} s  {fault.kind} of {fault.victim}, {fault.seconds} s, {fault.amount}")
        inject(cluster, load, fault)
        entry["ended"] = round(time.monotonic() - began, 3)

    left = sorted(plan.faults, key=lambda fault: fault.at)
    while (now := time.monotonic() - began) < plan.seconds:
        if load.first_acknowledged is not None:
            watcher.begin_to_wait()
        while left and left[0].at <= now:
            under_way.append(cluster.launcher.submit(bring_about, left.pop(0)))
        time.sleep(_TICK_SECONDS)
    wait(under_way, _HEAL_SECONDS)
    for future in under_way:
        future.result(0)
    for proxy in (cluster.kafka_proxy, cluster.postgres_proxy):
        proxy.switch(Mode())
    return journal


@contextmanager
def running(work: Callable[[], None], stopping: threading.Event) -> Iterator[None]:
    """A thread that does `work` until `stopping` is set, which it is at the end."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(90)


def save(result: Result, directory: Path) -> None:
    """What it takes to see why a seed failed: schedule, journal, breaches."""
    directory.mkdir(parents=True, exist_ok=True)
    plan = [asdict(fault) for fault in result.plan.faults]
    story = {"seed": result.plan.seed, "schedule": plan, "journal": list(result.journal), "breaches": result.verdict.breaches}
    (directory / "run.json").write_text(json.dumps(story, indent=1), encoding="utf-8")
