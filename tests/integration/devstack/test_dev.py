"""`sre-domain dev` as a process: what it starts, how it ends, and what it leaves behind."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from worker.devstack.processes import is_free
from worker.domain.aggregate import AGGREGATES
from worker.settings import Settings
from worker.topic_admin import partition_counts
from worker.topics import topic_specs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[3]
DEV = (sys.executable, "-m", "worker", "dev", "--data-dir")


@dataclass(frozen=True)
class Dev:
    process: subprocess.Popen[bytes]
    directory: Path

    def said(self) -> str:
        return (self.directory / "said").read_text()

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.said() or self.process.poll() is not None, 60, self.said)
        assert text in self.said()

    @property
    def environment(self) -> dict[str, str]:
        lines = (self.directory / "data" / "env").read_text().splitlines()
        return dict(shlex.split(line)[1].split("=", 1) for line in lines)

    @property
    def settings(self) -> Settings:
        given: dict[str, Any] = {name.removeprefix("SRE_").lower(): value for name, value in self.environment.items()}
        return Settings(**given)

    @property
    def ports(self) -> list[int]:
        return [int(self.settings.kafka_bootstrap_servers.split(":")[1]), int(conninfo_to_dict(self.settings.writer_dsn)["port"] or 0)]

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, words: str) -> psutil.Process:
        (found,) = [child for child in psutil.Process(self.process.pid).children() if words in " ".join(child.cmdline())]
        return found


@contextmanager
def running_dev(directory: Path, *options: str) -> Iterator[Dev]:
    command = [*DEV, str(directory / "data"), *options]
    with (directory / "said").open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, cwd=ROOT)
    dev = Dev(process, directory)
    try:
        dev.wait_for("Ctrl-C stops it all")
        yield dev
    finally:
        process.terminate()
        process.wait(60)


def wait_until(holds: Callable[[], bool], seconds: float, otherwise: Callable[[], str]) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.05)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def test_the_settings_it_writes_lead_to_a_migrated_database_and_to_the_topics(tmp_path: Path) -> None:
    with running_dev(tmp_path) as dev:
        with psycopg.connect(dev.settings.migration_dsn) as connection:
            assert connection.execute("SELECT count(*) > 0 FROM schema_migration").fetchone() == (True,)
        urls = (dev.settings.writer_dsn, dev.settings.relay_dsn, dev.settings.reader_dsn)
        assert [conninfo_to_dict(url)["user"] for url in urls] == ["sre_writer_dev", "sre_relay_dev", "sre_reader_dev"]
        specs = topic_specs(tuple(AGGREGATES))
        assert partition_counts(dev.settings, [spec.name for spec in specs]) == {spec.name: spec.partitions or 12 for spec in specs}
        assert dev.settings.session_timeout_seconds == 6
        assert all(f"{name}={value}" in dev.said() for name, value in dev.environment.items())
        assert dev.child("-m worker worker")
        assert dev.child("-m worker relay")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_it_cleanly_and_leaves_no_process_and_no_port(tmp_path: Path, number: signal.Signals) -> None:
    with running_dev(tmp_path) as dev:
        family, ports = dev.family(), dev.ports
        assert len(family) > 4
        dev.process.send_signal(number)
        assert dev.process.wait(30) == 0
        assert alive(family) == []
        assert all(is_free(port) for port in ports)
        assert dev.said().endswith("stopped\n")


def test_with_apache_kafka_it_leaves_nothing_either_and_its_data_and_addresses_stay(kafka: str, tmp_path: Path) -> None:
    assert kafka  # or skipped where Apache Kafka can't run
    with running_dev(tmp_path, "--broker", "apache") as dev:
        family, ports = dev.family(), dev.ports
        with psycopg.connect(dev.settings.migration_dsn) as connection:
            connection.execute("CREATE TABLE kept ()")
        dev.process.send_signal(signal.SIGINT)
        assert dev.process.wait(60) == 0
        assert alive(family) == []
        assert all(is_free(port) for port in ports)
    with running_dev(tmp_path, "--broker", "apache") as dev:
        assert dev.ports == ports
        with psycopg.connect(dev.settings.migration_dsn) as connection:
            connection.execute("SELECT FROM kept")


def test_killed_with_9_it_takes_its_children_along(tmp_path: Path) -> None:
    with running_dev(tmp_path) as dev:
        family, ports = dev.family(), dev.ports
        dev.process.kill()
        wait_until(lambda: not alive(family), 10, lambda: str(alive(family)))
        assert all(is_free(port) for port in ports)


@pytest.mark.parametrize(
    ("words", "name"), [("-m worker worker", "the worker"), ("postgres -D", "PostgreSQL"), ("broker --listener", "Tansu")]
)
def test_a_child_that_ends_is_started_again_at_the_same_address_with_a_line_each(tmp_path: Path, words: str, name: str) -> None:
    with running_dev(tmp_path) as dev:
        killed, ports = dev.child(words), dev.ports
        killed.kill()
        dev.wait_for(f"{name} is running again")
        assert f"{name} was ended by SIGKILL" in dev.said()
        assert dev.child(words).pid != killed.pid
        assert dev.ports == ports
        partition_counts(dev.settings, [spec.name for spec in topic_specs(tuple(AGGREGATES))])
        psycopg.connect(dev.settings.writer_dsn).close()


def test_a_second_one_on_the_same_data_is_refused_with_one_line(tmp_path: Path) -> None:
    with running_dev(tmp_path) as dev:
        second = subprocess.run([*DEV, str(tmp_path / "data")], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
        assert (second.returncode, second.stdout) == (1, "")
        assert second.stderr == f"sre-domain: another sre-domain dev is running in {tmp_path / 'data'}\n"
        assert dev.process.poll() is None


def test_interrupted_while_it_starts_it_leaves_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen([*DEV, str(tmp_path / "data")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT)
    itself = psutil.Process(process.pid)
    wait_until(lambda: bool(itself.children()), 30, lambda: "nothing was started")
    family = itself.children(recursive=True)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, b"stopped\n")
    wait_until(lambda: not alive(family), 10, lambda: str(alive(family)))
