"""Commands are there by name, and a process imports those that it runs."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from worker.cli.commands import PLACES
from worker.cli.main import app


@pytest.mark.parametrize("name", PLACES)
def test_a_command_is_where_it_should_be(name: str) -> None:
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    assert (command.name, command.rich_help_panel) == (name, PLACES[name].panel)
    assert command.help


@pytest.mark.parametrize("arguments", [["nobody"], ["relay", "nobody"]])
def test_what_is_no_command_is_refused(arguments: list[str]) -> None:
    done = CliRunner().invoke(app, arguments)
    assert (done.exit_code, "No such command 'nobody'" in done.output) == (2, True)


def test_a_slip_is_told_what_was_meant() -> None:
    assert "Did you mean 'relay'?" in CliRunner().invoke(app, ["relai"]).output


@pytest.mark.parametrize(("module", "without"), [("main", "pydantic"), ("relay", "worker.domain"), ("worker", "worker.relay")])
def test_a_process_imports_what_it_runs(module: str, without: str) -> None:
    code = f"import sys, worker.cli.{module}; print({without!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
