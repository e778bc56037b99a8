"""README.md does what it says: its blocks run in their order, and what it shows as their output is what comes out.

Once on the embedded stack, and once on Apache Kafka and a PostgreSQL where each process has its own role, with the listed rights only.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from worker.package_data import SQL as SQL_FILES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EMBEDDED, OWN = "Step by step", "On your own Kafka and PostgreSQL"
DEADLINE_SECONDS = 60

OUTPUT = ("text", "json")
SERVICES = ("sre-domain relay", "sre-domain worker")
# What is read may not be there yet.
ASKS_AGAIN = ("sre-domain facts", "sre-domain rejected", "sre-domain query", "from worker.postgres.queries")
PSQL = """psql --dbname sre --file "$(python -c 'from worker.package_data import SQL; print(SQL / "roles.sql")')\""""
NOT_RUN = {
    "make demo": "installs everything; what it runs has tests of its own",
    "make test": "is what runs this",
    "make dev": "installs everything; what it runs is started here as `sre-domain dev`",
    PSQL: "is run here without psql",
    "make bench": "loads the machine for minutes",
}
VARYING = {"time", "ce_time", "created_at", "updated_at", "broker_timestamp", "offset"}


@dataclass(frozen=True)
class Block:
    """A block of code under a heading, with the block behind it where that shows its output."""

    heading: str
    language: str
    code: str
    output: str | None

    @property
    def is_run(self) -> bool:
        return self.heading in (EMBEDDED, OWN) and self.code not in NOT_RUN


def blocks() -> list[Block]:
    """All blocks but the pictures and those that are another's output."""
    found: list[Block] = []
    for section in re.split(r"^## ", README, flags=re.MULTILINE)[1:]:
        heading, _, text = section.partition("\n")
        parts: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)\n```$", text, re.MULTILINE | re.DOTALL)
        for (language, code), (following, output) in zip_longest(parts, parts[1:], fillvalue=("", "")):
            if language not in OUTPUT:
                found.append(Block(heading, language, code, output if following in OUTPUT else None))
    return found


@dataclass(frozen=True)
class Shell:
    """Runs blocks as one shell would: what a block exports, the next ones have."""

    directory: Path
    environment: dict[str, str]

    def run(self, code: str) -> str:
        script = f". ./exports\n{code}\nexport -p > exports"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}"
        return done.stdout

    @contextmanager
    def service(self, command: str, until: str) -> Iterator[None]:
        """A command that goes on by itself, from the moment it says `until`."""
        log = self.directory / f"{command.replace(' ', '-')}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", f". ./exports; exec {command}"], cwd=self.directory, env=self.environment, stdout=output, stderr=output
            )
        try:
            deadline = time.monotonic() + DEADLINE_SECONDS
            while until not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            yield
            assert process.poll() is None, log.read_text()
        finally:
            process.terminate()
            process.wait(DEADLINE_SECONDS)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """In an empty directory, with `sre-domain` on the PATH and no settings."""
    tmp_path.chmod(0o755)
    program = tmp_path / "bin" / "sre-domain"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m worker "$@"\n')
    program.chmod(0o755)
    (tmp_path / "exports").touch()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SRE_")}
    return Shell(tmp_path, environment | {"PATH": f"{program.parent}:{environment['PATH']}", "PYTHONPATH": str(ROOT)})


def walk(shell: Shell, steps: Sequence[Block]) -> None:
    """Run shell and Python blocks and compare what they put out with what is shown, where something is."""
    for block in steps:
        code = block.code if block.language == "sh" else f"{shlex.quote(sys.executable)} - <<'END'\n{block.code}\nEND"
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            output = shell.run(code)
            if block.output is None or comparable(output) == comparable(block.output):
                break
            if not block.code.startswith(ASKS_AGAIN) or time.monotonic() > deadline:
                assert comparable(output) == comparable(block.output), block.code


def comparable(output: str) -> list[object]:
    """Lines, those of JSON without what differs from run to run."""
    return [without_varying(json.loads(line)) if line.startswith("{") else line for line in output.strip().splitlines()]


def without_varying(node: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(node, dict):
        return {name: without_varying(value) for name, value in node.items() if name not in VARYING}
    return node


def steps_of(heading: str) -> list[Block]:
    return [block for block in blocks() if block.heading == heading and block.is_run]


def test_every_block_is_run_or_has_a_reason_not_to_be() -> None:
    assert {block.code for block in blocks() if not block.is_run} == set(NOT_RUN)
    assert {block.language for block in blocks()} == {"sh", "python", "sql"}
    assert [block.code for block in blocks() if block.language == "sql" and block.heading != OWN] == []


def test_the_steps_on_the_embedded_stack_give_what_is_shown(shell: Shell) -> None:
    with shell.service("sre-domain dev", until="Ctrl-C stops it all"):
        walk(shell, steps_of(EMBEDDED))


@dataclass(frozen=True)
class Place:
    """Puts real addresses, and names that are this test's alone, where the README has examples."""

    kafka: str
    server: str
    suffix: str

    def put(self, code: str) -> str:
        server = conninfo_to_dict(self.server)
        code = re.sub(r"\bsre_(migrator|worker|mover|asker)\b", rf"\g<0>_{self.suffix}", code)
        code = re.sub(r"(/|DATABASE )sre\b", rf"\g<0>_{self.suffix}", code)
        return code.replace("kafka.example:9092", self.kafka).replace("db.example:5432", f"{server['host']}:{server.get('port') or 5432}")

    def clean_up(self) -> None:
        database = f"sre_{self.suffix}"
        with psycopg.connect(self.server, autocommit=True) as admin:
            admin.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s", [database])
            admin.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(database)))
            for role in ("migrator", "worker", "mover", "asker"):
                admin.execute(SQL("DROP ROLE IF EXISTS {}").format(Identifier(f"sre_{role}_{self.suffix}")))


@pytest.fixture
def place(kafka: str, server: str, topics: tuple[str, ...]) -> Iterator[Place]:  # noqa: ARG001 - nothing may be left in the topics
    place = Place(kafka, server, uuid4().hex[:8])
    yield place
    place.clean_up()


def set_up(shell: Shell, place: Place) -> dict[str, str]:
    """Run the section up to its services; gives the lines that say how those are started, by name."""
    services = {}
    dsn = place.server
    for block in steps_of(OWN):
        code = place.put(block.code)
        if block.language == "sql":
            with psycopg.connect(dsn, autocommit=True) as connection:
                for statement in code.split(";\n"):
                    connection.execute(statement.encode())
            if code.startswith("CREATE DATABASE"):
                with psycopg.connect(make_conninfo(dsn, dbname=f"sre_{place.suffix}")) as connection:
                    connection.execute((SQL_FILES / "roles.sql").read_bytes())
        elif code in SERVICES:
            services[code.split()[-1]] = code
        else:
            shell.run(code)
            dsn = shell.run('printf %s "${SRE_MIGRATE_DATABASE_URL-}"') or dsn
    return services


def test_the_steps_on_ones_own_servers_lead_to_the_same_with_the_listed_rights_only(shell: Shell, place: Place) -> None:
    shell.environment.update(SRE_RELAY_SLOT=f"slot_{place.suffix}", SRE_CONSUMER_GROUP=f"group-{place.suffix}")
    services = set_up(shell, place)
    with (
        shell.service(services["relay"], until="relaying from slot"),
        shell.service(services["worker"], until="taking intents"),
    ):
        walk(shell, [block for block in steps_of(EMBEDDED) if ".sre-domain/env" not in block.code])
    assert "maintenance" not in (shell.directory / "sre-domain-worker.log").read_text()
    with psycopg.connect(place.server, autocommit=True) as admin:
        admin.execute("SELECT pg_drop_replication_slot(%s)", [f"slot_{place.suffix}"])
    assert shell.run("sre-domain relay rebuild").endswith("are made anew: start the relay\n")
