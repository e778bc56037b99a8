"""`sre-domain demo` as a person runs it: real servers, the whole story, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.support.kafka import require_java_and_maven

ROOT = Path(__file__).parents[2]
LONGEST_SECONDS = 60.0


@dataclass
class Demo:
    """A demonstration that runs, with a directory for temporary files of its own."""

    directory: Path
    process: subprocess.Popen[bytes]
    family: set[psutil.Process] = field(default_factory=set)

    @property
    def said(self) -> str:
        return (self.directory / "said").read_text()

    @property
    def out(self) -> Path:
        return self.directory / "build" / "demo.json"

    def wait(self, until: str | None = None) -> int | None:
        """Its exit status; or None once it has said this. Notes the children that it has meanwhile."""
        deadline = time.monotonic() + 120
        while self.process.poll() is None and (until is None or until not in self.said):
            assert time.monotonic() < deadline, self.said
            try:
                self.family.update(psutil.Process(self.process.pid).children(recursive=True))
            except psutil.NoSuchProcess:
                break
            time.sleep(0.05)
        return self.process.wait(1) if until is None else self.process.poll()

    def left_behind(self) -> list[object]:
        alive = [process for process in self.family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
        return [*alive, *(self.directory / "tmp").iterdir()]


def start_demo(directory: Path, *options: str) -> Demo:
    (directory / "tmp").mkdir()
    command = [sys.executable, "-m", "worker", "demo", "--out", str(directory / "build" / "demo.json"), *options]
    with (directory / "said").open("wb") as said:
        environment = {**os.environ, "TMPDIR": str(directory / "tmp")}
        return Demo(directory, subprocess.Popen(command, stdout=said, stderr=said, cwd=ROOT, env=environment))


@pytest.mark.parametrize("broker", ["tansu", "apache"])
def test_it_checks_every_intent_and_leaves_its_figures_and_nothing_else(tmp_path: Path, broker: str) -> None:
    if broker == "apache":
        require_java_and_maven()
    demo = start_demo(tmp_path, "--broker", broker)
    assert demo.wait() == 0, demo.said
    assert len(demo.family) > 4
    assert demo.left_behind() == []

    figures = json.loads(demo.out.read_text())
    assert figures["broker"] == broker
    assert (figures["violations"], figures["breaches"]) == (0, [])
    assert figures["intents"] == sum(figures["outcomes"].values()) > 2_000
    assert figures["outcomes"]["rejected"] == sum(figures["rejections"].values())
    assert len(figures["rejections"]) >= 10
    assert figures["outcomes"]["no_change"] > 0
    assert figures["repeats"] > 0
    assert figures["facts"] > figures["outcomes"]["facts"]  # crossings come on top
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]
    assert 0 < figures["seconds"] < LONGEST_SECONDS

    assert "\x1b" not in demo.said
    assert f"each of {figures['intents']} intents has one outcome" in " ".join(demo.said.split())
    assert "claimed on Apache Kafka" in " ".join(demo.said.split()) or broker == "apache"
    for crossing in ("budget exhausted", "budget recovered"):
        assert crossing in demo.said


def test_interrupted_in_the_middle_it_stops_cleanly(tmp_path: Path) -> None:
    demo = start_demo(tmp_path)
    demo.wait(until="budget exhausted")
    demo.process.send_signal(signal.SIGINT)
    assert demo.wait() == 130, demo.said
    assert demo.said.endswith("stopped\n")
    assert "Traceback" not in demo.said
    assert demo.left_behind() == []
    assert not demo.out.exists()
