"""PostgreSQL or Kafka away, at the start or in the run: wait, go on by itself, lose nothing, and say so once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.workload import workload
from tests.support.system import System, running_system, wait_until
from worker.devstack.apache_kafka import restart_kafka, start_kafka, stop_kafka
from worker.devstack.postgres import restart_postgres, start_postgres, stop_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from worker.devstack.apache_kafka import KafkaBroker
    from worker.devstack.postgres import PostgresServer

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def system(kafka_server: KafkaBroker, postgres_server: PostgresServer, tmp_path: Path) -> Iterator[System]:
    logs = tmp_path / "logs"
    logs.mkdir()
    with running_system(kafka_server.bootstrap_servers, postgres_server.dsn, logs) as running:
        yield running


def test_postgres_is_stopped_in_the_run_and_comes_back(system: System, postgres_server: PostgresServer) -> None:
    records, outcomes = workload(6_000)
    system.publish(records)
    relay, worker = system.start("relay"), system.start("worker")
    system.wait_for_outcomes(outcomes // 3)
    restarted = restart_postgres(postgres_server)
    try:
        system.wait_for_outcomes(outcomes)
        system.wait_until_published()
        assert worker.poll() is None
        assert relay.poll() is None
        assert system.breaches() == []
        assert warnings(system, "worker") <= 2
    finally:
        system.end()
        stop_postgres(restarted)


def test_kafka_is_stopped_in_the_run_and_comes_back(system: System, kafka_server: KafkaBroker) -> None:
    records, outcomes = workload(6_000)
    system.publish(records)
    system.start("relay")
    system.start("worker")
    system.wait_for_outcomes(outcomes // 3)
    restarted = restart_kafka(kafka_server)
    try:
        system.wait_for_outcomes(outcomes)
        system.wait_until_published()
        assert system.breaches() == []
        assert warnings(system, "worker") <= 12, system.log("worker").read_text()
    finally:
        system.end()
        stop_kafka(restarted)


def test_both_start_before_postgres_and_kafka_do(system: System, kafka_server: KafkaBroker, postgres_server: PostgresServer) -> None:
    records, outcomes = workload(500)
    system.publish(records)
    stop_kafka(kafka_server)
    stop_postgres(postgres_server)
    worker, relay = system.start("worker"), system.start("relay")
    wait_until(lambda: "waiting for Kafka" in system.log("worker").read_text(), 30, system.logs)
    kafka = start_kafka(kafka_server.directory, kafka_server.port, kafka_server.controller_port)
    try:
        wait_until(lambda: "nothing is lost" in system.log("worker").read_text(), 60, system.logs)
        postgres = start_postgres(postgres_server.directory, postgres_server.port)
        try:
            system.wait_for_outcomes(outcomes)
            system.wait_until_published()
            assert worker.poll() is None
            assert relay.poll() is None
            assert system.breaches() == []
        finally:
            system.end()
            stop_postgres(postgres)
    finally:
        stop_kafka(kafka)


def warnings(system: System, command: str) -> int:
    lines = system.log(command).read_text().splitlines()
    return sum(" WARNING " in line or " ERROR " in line for line in lines)
