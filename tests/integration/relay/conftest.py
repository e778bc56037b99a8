"""Servers of a test's own, which it may stop, kill and start again."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.support.kafka import empty_topics
from worker.devstack.apache_kafka import KafkaBroker, start_kafka
from worker.devstack.logins import make_logins
from worker.devstack.postgres import PostgresServer, start_postgres
from worker.postgres.migrate import migrate
from worker.topics import topic_specs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[PostgresServer]:
    """A migrated server of the test's own; the test may stop it and start it again."""
    server = start_postgres(tmp_path / "postgres")
    migrate(server.dsn)
    make_logins(server.dsn)
    yield server
    for process in psutil.Process().children():
        if process.name() == "postgres" and process.cwd().startswith(str(tmp_path)):
            process.send_signal(signal.SIGQUIT)
            process.wait(10)


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[KafkaBroker]:
    """A broker of the test's own, with empty topics; the test may stop it and start it again."""
    broker = start_kafka(tmp_path / "kafka")
    empty_topics(broker.bootstrap_servers, topic_specs(("slo",)))
    yield broker
    for process in psutil.Process().children():
        if str(tmp_path) in " ".join(process.cmdline()):
            process.kill()
            process.wait(10)
