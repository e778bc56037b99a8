"""The distribution, installed where no checkout is in sight: its commands find their SQL and schemas, and one intent becomes a fact."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
import venv
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from zipfile import ZipFile

import pytest

from tests.support.blocks import started
from tests.support.databases import own_database
from worker.devstack.logins import READER, RELAY, WRITER, login, make_logins

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DEADLINE_SECONDS = 60
CREATE = {
    "type": "CreateSLO",
    "tenant": "acme",
    "key": "checkout",
    "id": "an-intent",
    "data": {
        "name": "Checkout",
        "target": 99.9,
        "window": "7d",
        "sli_spec": {"good": "status < 500", "total": "all requests", "budgeting_method": "occurrences"},
        "owner": "team-checkout",
        "scope": "checkout",
        "actor": "ann",
    },
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist and with the wheel that was built from it, by a frontend's two steps and without a network."""
    directory = tmp_path_factory.mktemp("built")
    source = directory / "source"
    hatchling = [sys.executable, "-m", "hatchling", "build", "--directory", str(directory)]
    run([*hatchling, "--target", "sdist"], cwd=ROOT)
    shutil.unpack_archive(next(directory.glob("*.tar.gz")), source)
    run([*hatchling, "--target", "wheel"], cwd=next(source.iterdir()))
    shutil.rmtree(source)
    return directory


def run(command: list[str], cwd: Path, environment: dict[str, str] | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, cwd=cwd, env=environment, input=stdin, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done


@dataclass(frozen=True)
class Installation:
    """A virtual environment with the wheel in it, and an empty directory to work in."""

    directory: Path
    environment: dict[str, str]

    @property
    def python(self) -> str:
        return str(self.directory / "venv" / "bin" / "python")

    @property
    def program(self) -> str:
        return str(self.directory / "venv" / "bin" / "sre-domain")

    @property
    def elsewhere(self) -> Path:
        return self.directory / "elsewhere"

    def sre_domain(self, *arguments: str, stdin: str = "") -> str:
        return run([self.program, *arguments], self.elsewhere, self.environment, stdin).stdout

    @contextmanager
    def service(self, command: str, until: str) -> Iterator[None]:
        log = self.directory / f"{command}.log"
        with started([self.program, command], self.elsewhere, self.environment, log, until):
            yield


@pytest.fixture(scope="module")
def installation(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """What it depends on is taken from the packages of this Python, behind its own, so that nothing is fetched."""
    directory = tmp_path_factory.mktemp("installed")
    venv.create(directory / "venv", with_pip=True)
    (directory / "elsewhere").mkdir()
    (site,) = (directory / "venv").glob("lib/python*/site-packages")
    dependencies = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (wheel,) = built.glob("*.whl")
    pip = [str(directory / "venv" / "bin" / "python"), "-m", "pip", "install", "--no-index", "--no-deps", "--quiet"]
    run([*pip, "--disable-pip-version-check", str(wheel)], directory)
    (site / "dependencies.pth").write_text("\n".join(dependencies))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SRE_", "PYTHON"))}
    return Installation(directory, environment)


def test_the_wheel_holds_every_module_statement_and_schema(built: Path) -> None:
    """Whatever is in the checkout: a file that was left out is missed only where it is needed."""
    (wheel,) = built.glob("*.whl")
    packed = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {path.relative_to(ROOT) for folder in ("worker", "sql", "schemas") for path in (ROOT / folder).rglob("*.*") if path.is_file()}
    expected = {str(file if file.parts[0] == "worker" else "worker" / file) for file in files if "__pycache__" not in file.parts}
    assert packed == expected


def test_the_checkout_and_the_sdist_make_the_same_wheel(built: Path, tmp_path: Path) -> None:
    run([sys.executable, "-m", "hatchling", "build", "--directory", str(tmp_path), "--target", "wheel"], cwd=ROOT)
    (wheel,), (other,) = built.glob("*.whl"), tmp_path.glob("*.whl")
    assert other.name == wheel.name
    assert other.read_bytes() == wheel.read_bytes()


def test_it_says_its_version(installation: Installation) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert installation.sre_domain("--version") == f"sre-domain {version}\n"


def test_a_shell_completes_its_commands(installation: Installation) -> None:
    """In a real bash, by what `--install-completion` leaves in an empty home."""
    home = installation.directory / "home"
    home.mkdir()
    environment = installation.environment | {"HOME": str(home), "PATH": f"{Path(installation.program).parent}:{os.environ['PATH']}"}
    shown = run(["bash", "-c", "sre-domain --show-completion; true"], installation.elsewhere, environment).stdout
    run(["bash", "-c", "sre-domain --install-completion; true"], installation.elsewhere, environment)
    (installed,) = (file for file in home.rglob("*sre-domain*") if file.is_file())
    assert installed.read_text().strip() == shown.strip()
    assert str(installed) in (home / ".bashrc").read_text()
    for words, place, completed in (("sre-domain rel", 1, {"relay"}), ("sre-domain keys ", 2, {"new", "list", "revoke"})):
        press_tab = (
            f"source ~/.bashrc; COMP_WORDS=({words} ''); COMP_CWORD={place}; _sre_domain_completion sre-domain; echo ${{COMPREPLY[@]}}"
        )
        assert set(run(["bash", "-c", press_tab], installation.elsewhere, environment).stdout.split()) == completed


def test_it_is_the_wheel_that_runs(installation: Installation) -> None:
    statement = "import worker, worker.package_data as data; print(worker.__file__); print(data.SQL); print(data.AVRO)"
    places = run([installation.python, "-c", statement], installation.elsewhere, installation.environment).stdout.splitlines()
    assert all(Path(place).is_relative_to(installation.directory / "venv") for place in places)


def test_its_help_names_every_command(installation: Installation) -> None:
    shown = installation.sre_domain("--help")
    commands = ("worker", "relay", "migrate", "topics", "doctor", "demo", "dev", "publish", "facts", "rejected", "import", "query")
    assert [name for name in commands if f" {name} " not in shown] == []


@pytest.fixture
def system(
    installation: Installation,
    kafka: str,
    topics: tuple[str, ...],  # noqa: ARG001 - emptied
    server: str,
    template: str,  # noqa: ARG001 - with which the logins are made
) -> Iterator[Installation]:
    """The installation with settings that lead to an empty Kafka and a database without a schema."""
    name = f"wheel_{uuid4().hex}"
    with own_database(server) as database:
        settings = {
            "SRE_KAFKA_BOOTSTRAP_SERVERS": kafka,
            "SRE_MIGRATE_DATABASE_URL": database,
            "SRE_DATABASE_URL": login(database, WRITER),
            "SRE_RELAY_DATABASE_URL": login(database, RELAY),
            "SRE_QUERY_DATABASE_URL": login(database, READER),
            "SRE_RELAY_SLOT": name,
            "SRE_CONSUMER_GROUP": name,
        }
        yield Installation(installation.directory, installation.environment | settings)


def test_one_intent_becomes_one_fact(system: Installation) -> None:
    assert "applied 0001_" in system.sre_domain("migrate")
    assert system.sre_domain("migrate") == "the schema is up to date\n"
    make_logins(system.environment["SRE_MIGRATE_DATABASE_URL"])
    assert system.sre_domain("topics") == "the topics are as they must be\n"
    with ExitStack() as services:
        services.enter_context(system.service("relay", until="relaying from slot"))
        services.enter_context(system.service("worker", until="taking intents"))
        system.sre_domain("publish", "-", stdin=json.dumps(CREATE))
        (fact,) = facts(system)
    assert (fact["type"], fact["tenant"], fact["key"], fact["version"]) == ("SLOCreated", "acme", "checkout", 1)
    assert fact["causation_id"] == "an-intent"
    assert json.loads(system.sre_domain("query", "get-slo", "checkout", "--tenant", "acme"))["version"] == 1


def facts(system: Installation) -> list[dict[str, Any]]:
    """All of them, as soon as there are any."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (lines := system.sre_domain("facts", "--from-beginning").splitlines()):
        assert time.monotonic() < deadline, "no fact came"
    return [json.loads(line) for line in lines]
