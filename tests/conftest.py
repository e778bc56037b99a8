"""The servers of a test session, and what a single test gets of them: a database of its own, topics that are empty.

PostgreSQL is the one of SRE_TEST_DATABASE_URL (a superuser's, wal_level=logical), else an embedded one. Apache Kafka runs in a container
where a Docker engine answers, else on the JVM.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from tests.support.databases import own_database
from tests.support.kafka import container_kafka, docker_answers, empty_topics, require_java_and_maven
from tests.support.registry import apicurio
from worker.devstack.apache_kafka import running_kafka, start_kafka
from worker.devstack.logins import make_logins
from worker.devstack.postgres import running_postgres
from worker.domain.aggregate import AGGREGATES
from worker.postgres.migrate import migrate
from worker.topics import topic_specs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.registry import ApicurioRegistry
    from worker.devstack.apache_kafka import KafkaBroker
    from worker.devstack.postgres import PostgresServer


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """DSN of a PostgreSQL superuser."""
    if given := os.environ.get("SRE_TEST_DATABASE_URL"):
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="sre-domain-postgres-") as directory, running_postgres(Path(directory)) as postgres:
        yield postgres.dsn


@pytest.fixture(scope="session")
def template(server: str) -> Iterator[str]:
    """Name of a database that is migrated and empty."""
    name = f"template_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        migrate(make_conninfo(server, dbname=name))
        make_logins(make_conninfo(server, dbname=name))
        yield name
        admin.execute(SQL("DROP DATABASE {}").format(Identifier(name)))


@pytest.fixture
def database(server: str, template: str) -> Iterator[str]:
    """A superuser's DSN of a migrated database of the test's own, and with it every replication slot that the test makes there.

    tests/support/roles.py has the logins of the worker, the relay and the readers.
    """
    with own_database(server, template) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def kafka() -> Iterator[str]:
    """Bootstrap servers of an Apache Kafka."""
    if docker_answers():
        with container_kafka() as bootstrap_servers:
            yield bootstrap_servers
        return
    with tempfile.TemporaryDirectory(prefix="sre-domain-kafka-") as directory:
        require_java_and_maven()
        broker = start_kafka(Path(directory))
        yield broker.bootstrap_servers
        broker.process.kill()  # a clean stop takes up to 20 s, and nobody wants its data
        broker.process.wait()


@pytest.fixture(scope="session")
def registry() -> Iterator[ApicurioRegistry]:
    """A schema registry that runs; whoever stops it starts it again."""
    with tempfile.TemporaryDirectory(prefix="sre-domain-registry-") as directory:
        server = apicurio(Path(directory))
        try:
            server.start()
            yield server
        finally:
            server.stop()


@pytest.fixture
def topics(kafka: str) -> tuple[str, ...]:
    """Names of the topics of the bus, all of them there and empty."""
    specs = topic_specs(tuple(AGGREGATES))
    empty_topics(kafka, specs)
    return tuple(spec.name for spec in specs)


@pytest.fixture
def kafka_server(tmp_path: Path) -> Iterator[KafkaBroker]:
    """A broker of the test's own, which it may stop and start again."""
    require_java_and_maven()
    with running_kafka(tmp_path / "kafka") as broker:
        yield broker


@pytest.fixture
def postgres_server(tmp_path: Path) -> Iterator[PostgresServer]:
    """A migrated server of the test's own, which it may stop and start again."""
    with running_postgres(tmp_path / "postgres") as server:
        migrate(server.dsn)
        make_logins(server.dsn)
        yield server
