"""Every line that the doctor can say is on its page, and was seen on a set-up that was broken for it."""

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import worker.doctor
from worker.doctor.finding import Line, Status

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
TESTS = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "integration").rglob("*.py"))
MODULES = [importlib.import_module(f"worker.doctor.{module.name}") for module in pkgutil.iter_modules(worker.doctor.__path__)]
LINES = {
    (module.__name__.rpartition(".")[2], name): line for module in MODULES for name, line in vars(module).items() if isinstance(line, Line)
}


def row(line: Line) -> str:
    return f"| {line.status} | `{line.what}` | {line.do or ''} |".replace("|  |", "| |")


def test_there_are_lines_of_every_status() -> None:
    assert {line.status for line in LINES.values()} == set(Status)
    assert len(LINES) > 80


@pytest.mark.parametrize("line", LINES.values(), ids=map("-".join, LINES))
def test_a_line_is_on_the_page_with_what_to_do(line: Line) -> None:
    assert row(line) in PAGE.splitlines()


def test_the_page_has_no_other_line() -> None:
    statuses = "|".join(Status)
    assert {text for text in PAGE.splitlines() if re.match(rf"\| ({statuses}) \|", text)} == {row(line) for line in LINES.values()}


@pytest.mark.parametrize("line", LINES.values(), ids=map("-".join, LINES))
def test_what_is_a_problem_says_what_to_do_and_nothing_else_does(line: Line) -> None:
    assert (line.do is not None) == (line.status in {Status.WARN, Status.FAIL})


@pytest.mark.parametrize("name", [name for _, name in LINES], ids=map("-".join, LINES))
def test_a_line_is_named_by_a_test_of_a_real_set_up(name: str) -> None:
    assert re.search(rf"\b{name}\b", TESTS)
