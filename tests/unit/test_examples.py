"""The examples: a stranger's know the contract and nothing of the worker, a team's know worker/client.py and what it hands over."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
TEAMS = ROOT / "examples" / "open_incidents.py"
STRANGERS = [program for program in EXAMPLES if program != TEAMS]


def imported_packages(source: str) -> set[str]:
    packages: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            packages.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            packages.add((node.module or ".").partition(".")[0])
    return packages


@pytest.mark.parametrize("program", STRANGERS, ids=lambda program: program.name)
def test_it_imports_confluent_kafka_and_fastavro_and_nothing_else(program: Path) -> None:
    imported = imported_packages(program.read_text(encoding="utf-8"))
    assert imported - sys.stdlib_module_names == {"confluent_kafka", "fastavro"}


def test_a_projection_takes_part_by_the_client_and_needs_no_kafka_of_its_own() -> None:
    assert imported_packages(TEAMS.read_text(encoding="utf-8")) - sys.stdlib_module_names == {"worker"}


@pytest.mark.parametrize("program", EXAMPLES, ids=lambda program: program.name)
def test_it_says_how_to_use_it(program: Path, tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    shown = subprocess.run([sys.executable, program, "--help"], capture_output=True, text=True, cwd=tmp_path, env=env, check=True).stdout
    assert "--bootstrap" in shown


def test_the_programs_are_found() -> None:
    assert [program.name for program in EXAMPLES] == ["open_incidents.py", "publish_intents.py", "read_facts.py"]


def test_the_page_about_projections_shows_the_projection_as_it_is() -> None:
    page = (ROOT / "docs" / "projection.md").read_text(encoding="utf-8")
    shown = page.split("```python\n")[1].split("```")[0]
    source = TEAMS.read_text(encoding="utf-8")
    assert shown.rstrip() == source[source.index("TABLES = ") : source.index("def main()")].rstrip()
