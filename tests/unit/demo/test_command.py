"""How `sre-domain demo` ends: its status, its last words and its file; the stack and the clients stand aside."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from worker.cli import demo
from worker.cli.main import main
from worker.demo.state import State
from worker.devstack.stack import Broker, Stack
from worker.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from worker.audit import Evidence
    from worker.demo.run import Observed
    from worker.demo.story import Story

Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, story: Story) -> Run:
    """Run the command with these observations, or with this error; gives its status."""

    @contextmanager
    def stack(broker: Broker, directory: Path) -> Iterator[Stack]:
        (directory / broker).mkdir()
        environment = {"SRE_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "SRE_DATABASE_URL": "postgresql://"}
        yield Stack(directory, environment, ())

    def run_it(outcome: tuple[Observed, Evidence] | BaseException) -> int:
        def play(_story: Story, _settings: object, _tick: object) -> Any:  # noqa: ANN401 - or it raises
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        scratch = tmp_path / "scratch"
        scratch.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(scratch))
        monkeypatch.setattr("sys.argv", ["sre-domain", "demo", "--out", str(tmp_path / "demo.json")])
        for name, stand_in in {
            "running_stack": stack,
            "play": play,
            "tell": lambda *_: story,
            "_read_state": lambda *_: State(),
            "stop_on_signals": lambda: None,
        }.items():
            monkeypatch.setattr(demo, name, stand_in)
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    return run_it


def left_behind(directory: Path) -> list[str]:
    return [path.name for path in (directory / "scratch").iterdir()]


def test_a_sound_run_ends_with_0_and_leaves_only_the_figures(
    run: Run, performance: tuple[Observed, Evidence], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(performance) == 0
    assert json.loads((tmp_path / "demo.json").read_text())["violations"] == 0
    assert "The audit found no breach" in capsys.readouterr().out
    assert left_behind(tmp_path) == []


def test_a_breach_is_shown_and_written_and_ends_it_with_1(
    run: Run, observed: Observed, evidence: Evidence, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    doctored = replace(evidence, outcomes=evidence.outcomes[1:])
    assert run((observed, doctored)) == 1
    figures = json.loads((tmp_path / "demo.json").read_text())
    assert figures["violations"] == len(figures["breaches"]) > 0
    said = capsys.readouterr()
    assert figures["breaches"][0] in said.out
    assert "no breach" not in said.out
    assert said.err.endswith(f"sre-domain: breaches found by the audit: {figures['violations']}\n")


def test_a_breakdown_is_one_line_and_the_logs_stay(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(WorkerError("Kafka is gone")) == 1
    (directory,) = left_behind(tmp_path)
    kept, line = capsys.readouterr().err.splitlines()
    assert kept.endswith(directory)
    assert line == "sre-domain: Kafka is gone"
    assert not (tmp_path / "demo.json").exists()


def test_an_interruption_ends_it_with_130_and_leaves_nothing(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(KeyboardInterrupt()) == 130
    said = capsys.readouterr()
    assert said.out.endswith("stopped\n")
    assert said.err == ""
    assert left_behind(tmp_path) == []
