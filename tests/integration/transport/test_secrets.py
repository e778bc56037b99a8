"""Secrets that are unmistakable, in every setting that takes one: whatever fails, nothing that any command says holds a part of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.certificates import Authority
from worker import bus, kafka_metadata, topic_admin
from worker.cli import main

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[3]
SECRET = "TOP-SECRET"  # noqa: S105 - which is the point
AWAY = "127.0.0.1:1"
DATABASE = f"postgresql://ann:{SECRET}-database@{AWAY}/sre"
COMMANDS = {
    "migrate": ("migrate",),
    "maintain": ("maintain",),
    "sweep": ("sweep",),
    "query": ("query", "list-slos", "--tenant", "acme"),
    "rebuild": ("relay", "rebuild"),
    "topics": ("topics",),
    "facts": ("facts",),
    "rejected": ("rejected", "list"),
    "publish": ("publish", "intents.jsonl"),
}
SERVICES = {
    "worker": ("worker",),
    "relay": ("relay",),
    "bridge": ("bridge", "alertmanager", "--tenant", "acme", "--listen", "127.0.0.1:1"),
}
INTENT = (
    '{"type": "RecordSLIWindow", "tenant": "acme", "key": "checkout",'
    ' "data": {"start": "2026-03-02T00:00:00Z", "width_seconds": 300, "good": 9, "total": 10}}\n'
)


def login(mechanism: str) -> dict[str, str]:
    servers = {"SRE_KAFKA_BOOTSTRAP_SERVERS": AWAY, "SRE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "SRE_KAFKA_SASL_MECHANISM": mechanism}
    if mechanism == "OAUTHBEARER":
        client = {"SRE_KAFKA_OAUTH_CLIENT_ID": "ann", "SRE_KAFKA_OAUTH_CLIENT_SECRET": f"{SECRET}-client"}
        return servers | client | {"SRE_KAFKA_OAUTH_TOKEN_URL": f"http://{AWAY}/token"}
    return servers | {"SRE_KAFKA_SASL_USERNAME": "ann", "SRE_KAFKA_SASL_PASSWORD": f"{SECRET}-kafka"}


OTHERS = {
    "SRE_DATABASE_URL": DATABASE,
    "SRE_MIGRATE_DATABASE_URL": DATABASE,
    "SRE_RELAY_DATABASE_URL": DATABASE,
    "SRE_QUERY_DATABASE_URL": DATABASE,
    "SRE_SCHEMA_REGISTRY_URL": f"http://ann:{SECRET}-registry@{AWAY}",
    "SRE_BRIDGE_TOKEN": f"{SECRET}-token",
}


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, dict[str, str]]:
    """Environments that make every command fail, by what is wrong."""
    directory = tmp_path_factory.mktemp("client")
    certificate, key = Authority(directory).issue("client", password=f"{SECRET}-key")
    locked = {
        "SRE_KAFKA_BOOTSTRAP_SERVERS": AWAY,
        "SRE_KAFKA_SECURITY_PROTOCOL": "SSL",
        "SRE_KAFKA_SSL_CERTIFICATE_FILE": str(certificate),
        "SRE_KAFKA_SSL_KEY_FILE": str(key),
        "SRE_KAFKA_SSL_KEY_PASSWORD": f"{SECRET}-wrong",
    }
    # libpq takes what follows the first @ or / for a host or a port.
    url = f"postgresql://ann:pass@{SECRET}@{AWAY}/sre"
    return {
        "away": OTHERS | login("SCRAM-SHA-512"),
        "no token": OTHERS | login("OAUTHBEARER"),
        "a locked key": OTHERS | locked,
        "a malformed URL": OTHERS | login("PLAIN") | {name: url for name in OTHERS if name.endswith("DATABASE_URL")},
        "what is no URL": OTHERS | login("PLAIN") | {name: f"{SECRET} {SECRET}" for name in OTHERS if name.endswith("DATABASE_URL")},
        "a wrong mechanism": OTHERS | login("PLAIN") | {"SRE_KAFKA_SASL_MECHANISM": SECRET},
        "secrets of another mechanism": OTHERS | login("PLAIN") | login("OAUTHBEARER"),
    }


WHAT = ["away", "no token", "a locked key", "a malformed URL", "what is no URL", "a wrong mechanism", "secrets of another mechanism"]


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_fails_says_one_line_without_a_secret(
    failures: Mapping[str, dict[str, str]],
    command: str,
    what: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name in [name for name in os.environ if name.startswith("SRE_")]:
        monkeypatch.delenv(name)
    for name, value in failures[what].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(kafka_metadata, "_TURN_SECONDS", 0.2)
    monkeypatch.setattr(bus, "_METADATA_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(topic_admin, "_TIMEOUT_SECONDS", 0.5)
    monkeypatch.chdir(tmp_path)
    Path("intents.jsonl").write_text(INTENT)
    monkeypatch.setattr(sys, "argv", ["sre-domain", *COMMANDS[command]])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capfd.readouterr()
    assert ended.value.code in {1, 2}
    assert SECRET not in out + err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("what", ["away", "a locked key", "a malformed URL"])
def test_a_service_that_waits_or_ends_says_no_secret(failures: Mapping[str, dict[str, str]], what: str, tmp_path: Path) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SRE_")}
    environment = inherited | failures[what] | {"PYTHONPATH": str(ROOT)}
    processes = {}
    for name, arguments in SERVICES.items():
        with (tmp_path / name).open("wb") as log:
            processes[name] = subprocess.Popen([sys.executable, "-m", "worker", *arguments], env=environment, stdout=log, stderr=log)
    try:
        for name, process in processes.items():
            wait_until_it_complains(tmp_path / name, process)
            said = (tmp_path / name).read_text()
            assert SECRET not in said
            assert "Traceback" not in said
            assert process.poll() is not None or SECRET not in Path(f"/proc/{process.pid}/cmdline").read_text()
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def test_the_settings_are_shown_without_a_secret(
    failures: Mapping[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sre-domain", "config"])
    for what in WHAT:
        with monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("SRE_")]:
                patch.delenv(name)
            for name, value in failures[what].items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                main()
        out, err = capfd.readouterr()
        assert SECRET not in out + err
        assert (ended.value.code or 0) == (0 if what in {"away", "no token", "a locked key"} else 2)
        assert bool(err) == bool(ended.value.code)


def wait_until_it_complains(log: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and not any(word in log.read_text() for word in ("WARNING", "ERROR", "cannot listen")):
        assert time.monotonic() < deadline, f"{log.name} says nothing: {log.read_text()}"
        time.sleep(0.05)
