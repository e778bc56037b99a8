"""The real Prometheus and Alertmanager, each a process with data of its own on a free port.

Programs on the PATH are taken; else the Debian packages are fetched with apt and unpacked into the user's cache, without installing them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from worker.devstack.files import cache_directory, make_once
from worker.devstack.processes import LOOPBACK, free_port, launch, stop, wait_until_ready

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START_SECONDS = 60

_PACKAGES = {"prometheus": "prometheus", "promtool": "prometheus", "prometheus-alertmanager": "prometheus-alertmanager"}
_UPSTREAM_NAMES = {"prometheus-alertmanager": "alertmanager"}  # what others than Debian call a program
# Debian's Alertmanager reads its templates from /usr/share by a path that no option changes: give it an /usr/share of its own.
_IN_OWN_USR_SHARE = ("unshare", "--map-root-user", "--mount", "sh", "-c", 'mount --bind "$0" /usr/share && exec "$@"')


def program(name: str) -> list[str]:
    """What starts a program of those packages, options to follow. Where it can't be had the test is skipped, and fails if CI is set."""
    for candidate in (name, _UPSTREAM_NAMES.get(name, name)):
        if found := shutil.which(candidate):
            return [found]
    package = _PACKAGES[name]
    try:
        unpacked = make_once(cache_directory() / f"debian-{package}", lambda directory: _unpack(package, directory))
        command = [*_IN_OWN_USR_SHARE, str(unpacked / "usr" / "share"), str(unpacked / "usr" / "bin" / name)]
        subprocess.run([*command, "--version"], check=True, capture_output=True, timeout=START_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"{name} is not on the PATH, and its Debian package can't be fetched and started: {error}")
    return command


@contextmanager
def running_prometheus(directory: Path, config: str) -> Iterator[str]:
    """Base URL of a Prometheus with this configuration; paths in it are relative to `directory`, which takes the data too."""
    file = directory / "prometheus.yml"
    file.write_text(config, encoding="utf-8")
    data = directory / "prometheus"
    options = [f"--config.file={file}", f"--storage.tsdb.path={data}", "--rules.alert.resend-delay=1s"]
    with _running("prometheus", options, directory / "prometheus.log") as url:
        yield url


@contextmanager
def running_alertmanager(directory: Path, config: str) -> Iterator[str]:
    """Base URL of an Alertmanager with this configuration and no peers; `directory` takes its data too."""
    file = directory / "alertmanager.yml"
    file.write_text(config, encoding="utf-8")
    options = [f"--config.file={file}", f"--storage.path={directory / 'alertmanager'}", "--cluster.listen-address="]
    with _running("prometheus-alertmanager", options, directory / "alertmanager.log") as url:
        yield url


@contextmanager
def _running(name: str, options: list[str], log: Path) -> Iterator[str]:
    command, port = program(name), free_port()
    url = f"http://{LOOPBACK}:{port}"
    process = launch([*command, *options, f"--web.listen-address={LOOPBACK}:{port}"], log)
    wait_until_ready(name, process, lambda: _answers(f"{url}/-/ready"), log, seconds=START_SECONDS)
    try:
        yield url
    finally:
        stop(process)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as response:  # noqa: S310 - http, on the loopback interface
            return bool(response.status == 200)
    except OSError:  # refused, or 503 while it starts
        return False


def _unpack(package: str, directory: Path) -> None:
    subprocess.run(["apt-get", "download", package], cwd=directory, check=True, capture_output=True, timeout=300)
    (archive,) = directory.glob(f"{package}_*.deb")
    subprocess.run(["dpkg", "-x", archive, directory], check=True, capture_output=True, timeout=120)
    archive.unlink()
