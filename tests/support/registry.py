"""A real schema registry, Apicurio, on the loopback interface: fetched by Maven, run by a Java of its own choosing, kept in a file."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from worker.devstack.apache_kafka import MissingToolError
from worker.devstack.files import cache_directory, make_once
from worker.devstack.processes import LOOPBACK, free_port, launch, run, stop, wait_until_ready

if TYPE_CHECKING:
    from collections.abc import Iterator

_VERSION: Final = "3.3.3"
_OLDEST_JAVA: Final = 21
_COPY: Final = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
_FRUGAL: Final = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xmx256m")  # 5 s of a processor until it is ready
_READY_SECONDS: Final = 180


@dataclass
class ApicurioRegistry:
    """Can be stopped and started again, with all that was registered, at the same port."""

    directory: Path
    java: str
    jar: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}/apis/ccompat/v7"

    def start(self) -> None:
        log = self.directory / "registry.log"
        environment = {
            "APICURIO_DATASOURCE_URL": f"jdbc:h2:file:{self.directory / 'registry'}",
            "QUARKUS_HTTP_HOST": LOOPBACK,
            "QUARKUS_HTTP_PORT": str(self.port),
            "QUARKUS_MANAGEMENT_HOST": LOOPBACK,
            "QUARKUS_MANAGEMENT_PORT": "0",
            "QUARKUS_HTTP_ACCESS_LOG_ENABLED": "false",
        }
        self.process = launch([self.java, *_FRUGAL, "-jar", self.jar], log, cwd=self.directory, environment=environment)
        wait_until_ready("Apicurio", self.process, self._answers, log, seconds=_READY_SECONDS)

    def stop(self) -> None:
        if self.process is not None:
            stop(self.process)
            self.process = None

    def _answers(self) -> bool:
        try:
            with urlopen(f"{self.url}/subjects", timeout=5) as answer:  # noqa: S310 - our own
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False


def apicurio(directory: Path) -> ApicurioRegistry:
    """Not started yet. Without Maven or a Java that is new enough the test is skipped, and fails where CI is set."""
    try:
        return ApicurioRegistry(directory.resolve(), _java(), _jar())
    except MissingToolError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def _java() -> str:
    for java in _javas():
        told = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False).stderr
        version = re.search(r'version "(\d+)', told)
        if version is not None and int(version[1]) >= _OLDEST_JAVA:
            return java
    raise MissingToolError(f"Apicurio needs Java {_OLDEST_JAVA} or later, in JAVA_HOME, on the PATH or in /usr/lib/jvm")


def _javas() -> Iterator[str]:
    if home := os.environ.get("JAVA_HOME"):
        yield f"{home}/bin/java"
    if on_path := shutil.which("java"):
        yield on_path
    yield from map(str, sorted(Path("/usr/lib/jvm").glob("*/bin/java"), reverse=True))


def _jar() -> Path:
    return make_once(cache_directory() / f"apicurio-{_VERSION}", _fetch_into) / "quarkus-run.jar"


def _fetch_into(empty: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise MissingToolError("Apicurio is fetched by Maven: no `mvn` on the PATH")
    artifact = f"io.apicurio:apicurio-registry-app:{_VERSION}:tar.gz:all"
    options = ["--batch-mode", "--quiet", "-Dstyle.color=never", f"-Dartifact={artifact}", f"-DoutputDirectory={empty}"]
    run("fetching Apicurio with Maven", [maven, *options, _COPY], empty.with_name("maven.log"))
    (archive,) = empty.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        files.extractall(empty, filter="data")
    archive.unlink()
