"""How checks are run, what is around the servers, and the command as a process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from confluent_kafka import KafkaError, KafkaException

from worker.doctor import examination, surroundings
from worker.doctor.checks import COMPLETE, UNKNOWN, WRONG, checks
from worker.doctor.examination import Check, examine
from worker.doctor.finding import Status, fail, ok, warn
from worker.health import Check as Health
from worker.health import serve_health

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integration.doctor.conftest import Ask
    from worker.doctor.finding import Finding

    Setting = Callable[[str, str | None], None]

ROOT = Path(__file__).parents[3]
FINE, WORRYING, BROKEN = ok("fine").of(), warn("worrying", "look").of(), fail("broken", "mend").of()


def raising(error: Exception) -> Callable[[], Iterator[Finding]]:
    def run() -> Iterator[Finding]:
        yield from (raise_it() for _ in range(1))

    def raise_it() -> Finding:
        raise error

    return run


def test_what_needs_something_broken_is_not_checked_and_neither_is_what_needs_that() -> None:
    asked = [
        Check("a", lambda: [WORRYING, BROKEN]),
        Check("b", lambda: [FINE], ("a",)),
        Check("c", lambda: [FINE], ("b",)),
        Check("d", lambda: [WORRYING]),
        Check("e", lambda: [FINE], ("d",)),
    ]
    assert list(examine(asked)) == [
        ("a", WORRYING),
        ("a", BROKEN),
        ("b", examination.NEEDS.of(need="a")),
        ("c", examination.NEEDS.of(need="b")),
        ("d", WORRYING),
        ("e", FINE),
    ]


def test_a_check_that_hangs_is_left_behind() -> None:
    never = Event()
    assert list(examine([Check("a", lambda: [FINE] if never.wait() else []), Check("b", lambda: [FINE])], 0.05)) == [
        ("a", examination.SILENT.of(seconds=0.05)),
        ("b", FINE),
    ]
    never.set()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (psycopg.errors.InsufficientPrivilege("no\nright"), examination.FORBIDDEN.of(why="no right")),
        (psycopg.OperationalError("gone\naway"), examination.BROKE_OFF.of(why="gone away")),
        (KafkaException(KafkaError(KafkaError._TRANSPORT, "down")), examination.BROKE_OFF.of(why="down")),
        (KeyError("name"), examination.BROKE_OFF.of(why="KeyError: 'name'")),
    ],
)
def test_a_check_that_fails_in_itself_hides_no_other(error: Exception, expected: Finding) -> None:
    assert list(examine([Check("a", raising(error)), Check("b", lambda: [FINE])])) == [("a", expected), ("b", FINE)]


# --- Settings


def test_each_setting_that_is_wrong_has_a_line_and_nothing_else_is_asked(setting: Setting) -> None:
    setting("SRE_DATABASE_URL", None)
    setting("SRE_SIGNATURES", "TOPSECRET")
    (check,) = checks(("SRE_SIGNATURE",))
    found = list(check.run())
    assert [finding.what.partition(":")[0] for finding in found] == ["SRE_DATABASE_URL", "SRE_SIGNATURES", "SRE_SIGNATURE is no setting"]
    assert {finding.do for finding in found} == {WRONG.do, UNKNOWN.do}
    assert "TOPSECRET" not in repr(found)


@pytest.mark.usefixtures("setting")
def test_settings_in_order_are_called_so() -> None:
    assert list(checks(())[0].run()) == [COMPLETE.of()]


# --- Around the servers


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_registry_that_is_away_is_named_without_its_password(ask: Ask, setting: Setting) -> None:
    assert ask("schema registry") == [surroundings.NO_REGISTRY.of()]
    with answering(200, b'["sre.core.v1.SLOCreated"]') as address:
        setting("SRE_SCHEMA_REGISTRY_URL", f"http://{address}")
        assert ask("schema registry") == [surroundings.REGISTRY.of(count=1)]
    with answering(401, b'{"error_code": 40101, "message": "no"}') as address:
        setting("SRE_SCHEMA_REGISTRY_URL", f"http://ann:TOPSECRET@{address}")
        assert ask("schema registry") == [surroundings.REGISTRY_AWAY.of(why="status 401")]
    setting("SRE_SCHEMA_REGISTRY_URL", f"http://ann:TOPSECRET@{address}")
    (found,) = ask("schema registry")
    assert found.do == surroundings.REGISTRY_AWAY.do
    assert "TOPSECRET" not in found.what


def test_an_address_for_probes_that_is_taken_is_named(ask: Ask, setting: Setting) -> None:
    assert ask("health address") == [surroundings.NO_ADDRESS.of()]
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
    address = f"127.0.0.1:{port}"
    setting("SRE_HEALTH_ADDRESS", address)
    assert ask("health address") == [surroundings.FREE.of(address=address)]
    with serve_health(address, lambda: Health(state="active"), lambda: Health(state="active")):
        assert ask("health address") == [surroundings.ANSWERS.of(address=address)]
    with answering(200, b"hello") as foreign:
        setting("SRE_HEALTH_ADDRESS", foreign)
        (found,) = ask("health address")
        assert found.do == surroundings.TAKEN.do
        assert found.what.startswith(f"{foreign} can't be listened on: ")


# --- The command


def doctor(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SRE_")}
    return subprocess.run(
        [sys.executable, "-m", "worker", "doctor", *arguments],
        env={**kept, **environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.usefixtures("topics")
def test_the_command_says_a_line_a_check_and_what_to_do_and_ends_with_1(slot: str, kafka: str) -> None:
    """Two breaks at once, of two kinds; warnings of a small server alone would be 0."""
    given = {name: value for name, value in os.environ.items() if name.startswith("SRE_")} | {"SRE_KAFKA_BOOTSTRAP_SERVERS": kafka}
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        done = doctor(**given, SRE_HEALTH_ADDRESS=address)
        as_json = doctor("--json", **given, SRE_HEALTH_ADDRESS=address)
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (1, "")
    failed = [line.split("  ", 1)[1].strip() for line in lines if line.startswith("fail ")]
    assert [line.split("  ")[0] for line in failed] == ["slot", "health address"]
    assert all(lines[number + 1].lstrip().startswith("do: ") for number, line in enumerate(lines) if line.startswith(("fail ", "warn ")))
    told: dict[str, Any] = json.loads(as_json.stdout)
    assert as_json.returncode == 1
    assert told["status"] == "fail"
    assert {one["check"] for one in told["checks"]} == {check.name for check in checks(())}
    assert [one["check"] for one in told["checks"] if one["status"] == Status.FAIL] == ["slot", "health address"]
    assert {one["do"] is None for one in told["checks"] if one["status"] in {"ok", "not checked"}} == {True}
    assert slot in next(one["what"] for one in told["checks"] if one["check"] == "slot")


def test_without_settings_the_command_says_which() -> None:
    done = doctor()
    assert done.returncode == 1
    assert [line.split()[:3] for line in done.stdout.splitlines() if line.startswith("fail")] == [
        ["fail", "settings", "SRE_KAFKA_BOOTSTRAP_SERVERS:"],
        ["fail", "settings", "SRE_DATABASE_URL:"],
    ]
