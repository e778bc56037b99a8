"""The examples are a stranger's: they know the contract and nothing of the worker."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


def imported_packages(source: str) -> set[str]:
    packages: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            packages.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            packages.add((node.module or ".").partition(".")[0])
    return packages


@pytest.mark.parametrize("program", EXAMPLES, ids=lambda program: program.name)
def test_it_imports_confluent_kafka_and_fastavro_and_nothing_else(program: Path) -> None:
    imported = imported_packages(program.read_text(encoding="utf-8"))
    assert imported - sys.stdlib_module_names == {"confluent_kafka", "fastavro"}


@pytest.mark.parametrize("program", EXAMPLES, ids=lambda program: program.name)
def test_it_says_how_to_use_it(program: Path, tmp_path: Path) -> None:
    shown = subprocess.run([sys.executable, program, "--help"], capture_output=True, text=True, cwd=tmp_path, check=True).stdout
    assert "--bootstrap" in shown


def test_the_programs_are_found() -> None:
    assert [program.name for program in EXAMPLES] == ["publish_intents.py", "read_facts.py"]
