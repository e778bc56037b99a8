"""README.md leads to a working system on one's own servers: Apache Kafka, and a PostgreSQL where each process has its own role.

tests/acceptance/test_code_blocks.py walks through its steps on the embedded stack.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from tests.support.blocks import Block, Shell, blocks_of, new_shell, walk
from tests.support.code_blocks import is_walked
from tests.support.databases import drop_database
from worker.package_data import SQL as SQL_FILES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EMBEDDED, OWN = "Step by step", "On your own Kafka and PostgreSQL"
SERVICES = ("sre-domain relay", "sre-domain worker")
PSQL = "psql --dbname sre"


def steps_of(heading: str) -> list[Block]:
    return [block for block in blocks_of("README.md") if block.heading == heading and is_walked(block)]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return new_shell(tmp_path, dict(os.environ))


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
        with psycopg.connect(self.server, autocommit=True) as admin:
            drop_database(admin, f"sre_{self.suffix}")
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
        elif code.startswith(PSQL):
            continue  # done above, without psql
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
