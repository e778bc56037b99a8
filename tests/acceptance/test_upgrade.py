"""A release after this one, rolled out under load: expand, both versions at work, contract. One outcome each, facts contiguous.

Version n is this tree. Version n+1 is a copy of it with what a release brings: a column that it writes (`pre`), and that column without its
default (`post`), with which n could insert no row any more.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg
import pytest

from tests.faults.workload import workload
from tests.support.records import CODEC, create
from tests.support.system import System, environment_of, running_system, wait_until
from worker.client import Intent, to_outgoing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT: Final = Path(__file__).parents[2]
SECONDS: Final = 60
EXPAND: Final = "9000_pre_add_slo_release"
CONTRACT: Final = "9001_post_require_slo_release"
INTENTS: Final = 1_200
A_ROUND: Final = 24


@dataclass(frozen=True)
class Release:
    """Version n+1 as a tree of files, and how to run its commands against the system's servers."""

    tree: Path
    system: System
    database: str

    def start(self, command: str) -> subprocess.Popen[bytes]:
        with self.system.log(f"next-{command}").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "worker", command], cwd=self.tree, env=self.environment, stdout=log, stderr=log
            )
        self.system.processes.append(process)
        return process

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "worker", *arguments],
            cwd=self.tree,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        paths = {"PYTHONPATH": str(self.tree), "SRE_MIGRATE_DATABASE_URL": self.database}
        return {**os.environ, **environment_of(self.system.settings), **paths}


@pytest.fixture
def release(kafka: str, topics: tuple[str, ...], database: str, tmp_path: Path) -> Iterator[Release]:  # noqa: ARG001 - emptied
    tree = tmp_path / "next"
    for part in ("worker", "sql", "schemas"):
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    migrations, statements = tree / "sql" / "migrations", tree / "sql" / "queries" / "slo.sql"
    (migrations / f"{EXPAND}.sql").write_text("ALTER TABLE slo ADD COLUMN release text NOT NULL DEFAULT 'n';")
    (migrations / f"{CONTRACT}.sql").write_text("ALTER TABLE slo ALTER COLUMN release DROP DEFAULT;")
    before, insert, after = statements.read_text().partition("INSERT INTO slo (\n")
    changed = after.replace("\n)\nSELECT * FROM unnest(", ", release\n)\nSELECT *, 'n+1' FROM unnest(", 1)
    assert changed != after
    statements.write_text(before + insert + changed)
    with running_system(kafka, database, tmp_path) as system:
        yield Release(tree, system, database)


def test_two_versions_decide_side_by_side_while_the_schema_changes(release: Release) -> None:
    system, database = release.system, release.database
    records, outcomes = workload(INTENTS)
    fifth = len(records) // 5
    old_relay, old_worker = system.start("relay"), system.start("worker")
    system.publish(records[:fifth])
    system.wait_for_outcomes(1)

    with ThreadPoolExecutor(1) as meanwhile:
        published = meanwhile.submit(system.publish, records[fifth : 2 * fifth])
        assert release.run("migrate", "--pre").splitlines() == [f"applied {EXPAND}"]
        assert published.result() == fifth
    decided = made_by(database)
    assert set(decided) == {"n"}

    # The version before goes on, and may start anew: a pod may be moved in the middle of a roll-out.
    rounds = count()
    outcomes += ask_until(system, rounds, lambda: made_by(database)["n"] > decided["n"])
    system.kill(old_worker)
    old_worker = system.start("worker")

    release.start("worker")
    before = made_by(database)
    outcomes += ask_until(system, rounds, lambda: {"n", "n+1"} <= grown(before, made_by(database)))
    system.publish(records[2 * fifth : 3 * fifth])
    release.start("relay")
    old_relay.terminate()
    assert old_relay.wait(SECONDS) == 0

    system.publish(records[3 * fifth : 4 * fifth])
    old_worker.terminate()
    assert old_worker.wait(SECONDS) == 0
    assert release.run("migrate").splitlines() == [f"applied {CONTRACT}"]
    system.publish(records[4 * fifth :])
    system.wait_for_outcomes(outcomes)
    assert system.count("inbox") == outcomes

    assert system.start("worker").wait(SECONDS) == 1
    last = system.log("worker").read_text().splitlines()[-1]
    assert last.startswith(f"sre-domain: the database is newer than this sre-domain, which can't work with it since migration {CONTRACT}: ")
    system.wait_until_published()
    assert system.breaches(system.seen) == []
    assert system.breaches() == []


def ask_until(system: System, rounds: Iterator[int], holds: Callable[[], bool]) -> int:
    """Create SLOs, a round after the other, until it holds; how many outcomes that adds."""
    asked = 0

    def ask() -> bool:
        nonlocal asked
        number = next(rounds)
        intents = [
            Intent("CreateSLORequested", "acme", f"round-{number}-{place}", create(), "/tests", time=datetime.now(UTC))
            for place in range(A_ROUND)
        ]
        asked += system.publish([to_outgoing(intent, CODEC) for intent in intents])
        return holds()

    wait_until(ask, SECONDS, lambda: f"{asked} asked {system.logs()}")
    return asked


def made_by(database: str) -> dict[str, int]:
    with psycopg.connect(database) as connection:
        return dict(connection.execute("SELECT release, count(*) FROM slo GROUP BY release").fetchall())


def grown(before: dict[str, int], now: dict[str, int]) -> set[str]:
    return {release for release, number in now.items() if number > before.get(release, 0)}
