"""Children that end with their parent, and what a log has to say."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from worker.devstack.processes import (
    DevStackError,
    complaints,
    free_port,
    is_free,
    launch,
    require_free,
    run,
    stop,
    wait_until,
    wait_until_ready,
)

PARENT = """
import sys, time
from pathlib import Path
from worker.devstack.processes import launch
print(launch([sys.executable, "-c", "import time; time.sleep(600)"], Path(sys.argv[1])).pid, flush=True)
time.sleep(600)
"""


def test_a_child_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, tmp_path / "log"], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3])
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    assert child.is_running()
    parent.kill()
    parent.communicate()
    child.wait(10)


def test_a_child_is_out_of_reach_of_the_terminals_ctrl_c(tmp_path: Path) -> None:
    child = launch(["sleep", "600"], tmp_path / "log")
    wait_until(lambda: os.getsid(child.pid) != os.getsid(0), seconds=5, failure="same session")
    assert stop(child) == -signal.SIGTERM


def test_what_does_not_end_when_asked_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = launch(
        [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"], log
    )
    wait_until_ready("the deaf", child, lambda: b"deaf\n" in log.read_bytes(), log, seconds=10)
    assert stop(child, seconds=0.2) == -signal.SIGKILL


def test_a_server_that_ends_while_starting_is_named_with_its_last_complaint(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("FATAL: of an earlier run\n")
    child = launch(["sh", "-c", "echo starting; echo 'ERROR: no disk'; echo bye; exit 3"], log)
    with pytest.raises(DevStackError, match=rf"^disk did not start: ERROR: no disk \(see {log}\)$"):
        wait_until_ready("disk", child, lambda: False, log, seconds=10)


def test_a_server_that_is_not_ready_in_time_is_killed(tmp_path: Path) -> None:
    child = launch(["sleep", "600"], tmp_path / "log")
    with pytest.raises(DevStackError, match=r"^sloth was not ready after 0 s: it said nothing"):
        wait_until_ready("sloth", child, lambda: False, tmp_path / "log", seconds=0.1)
    assert child.returncode == -signal.SIGKILL


def test_a_command_that_fails_is_named_with_its_first_complaint(tmp_path: Path) -> None:
    with pytest.raises(DevStackError, match=r"^fetching failed: \[ERROR\] the cause \(see"):
        run("fetching", ["sh", "-c", "echo '[ERROR] the cause'; echo '[ERROR] see the manual'; exit 1"], tmp_path / "log")


def test_complaints_are_those_of_the_latest_run(tmp_path: Path) -> None:
    for text in ("fatal once", "all is well"):
        launch(["echo", text], tmp_path / "log").wait()
    assert complaints(tmp_path / "log") == ["all is well"]


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        assert not is_free(port)
        with pytest.raises(DevStackError, match=f"^PostgreSQL cannot start: port {port} is taken$"):
            require_free(port, "PostgreSQL")
