"""The Dockerfile, as far as it goes without an engine: its build steps are run on what it copies, and its probe is asked."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.k8s.kustomize import ROOT, containers, manifests, named, pod_template
from tests.support.system import wait_until
from worker.devstack.processes import LOOPBACK, free_port
from worker.health import Check, serve_health

if TYPE_CHECKING:
    from collections.abc import Iterator

INSTALLED = "/opt/sre-domain"
_INSTRUCTION = re.compile(r"^([A-Z]+) (.*)$")


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile, in order, each on one line."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    return [match.groups() for line in joined if (match := _INSTRUCTION.match(line))]  # type: ignore[misc]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for name, rest in instructions():
        if name == "FROM":
            found.append([])
        found[-1].append((name, rest))
    return found


def only(stage: list[tuple[str, str]], name: str) -> str:
    (rest,) = (rest for instruction, rest in stage if instruction == name)
    return rest


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the build stage leaves in /opt/sre-domain, made by its COPY and RUN lines in directories of this test's own."""
    directory = tmp_path_factory.mktemp("image")
    source, target = directory / "src", directory / "opt"
    source.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SRE_", "PYTHON", "VIRTUAL_ENV"))}
    for name, rest in stages()[0]:
        if name == "COPY":
            *copied, into = rest.split()
            for one in copied:
                copy(ROOT / one, source / into)
        if name == "RUN":
            command = rest.replace(INSTALLED, str(target))
            done = subprocess.run(
                ["sh", "-c", command], cwd=source, env=environment, capture_output=True, text=True, timeout=280, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
    yield target
    shutil.rmtree(directory)


def copy(what: Path, to: Path) -> None:
    """A directory's contents, or a file into the directory, as COPY does."""
    if what.is_dir():
        shutil.copytree(what, to, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        to.mkdir(exist_ok=True)
        shutil.copy(what, to)


def run(image: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{image / 'bin'}:{os.environ['PATH']}", "HOME": "/nonexistent", "SRE_KAFKA_BOOTSTRAP_SERVERS": "kafka:9092"}
    return subprocess.run([*command], cwd="/", env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_image_runs_what_the_manifests_ask_for(image: Path) -> None:
    entry = json.loads(only(stages()[1], "ENTRYPOINT"))
    for kind, name in (("Deployment", "sre-worker"), ("Deployment", "sre-relay"), ("Job", "sre-migrate"), ("CronJob", "sre-sweep")):
        (container,) = containers(named(manifests("overlays/prod"), kind, name))
        done = run(image, *entry, *container["args"], "--help")
        assert done.returncode == 0, done.stderr


def test_the_image_has_the_schemas_and_the_sql(image: Path) -> None:
    done = run(
        image,
        "python",
        "-c",
        "from worker.codec import load_codec as l; from worker.postgres.migrate import MIGRATIONS as m; l(); print(m)",
    )
    assert done.returncode == 0, done.stderr
    packed = Path(done.stdout.strip())
    assert packed.is_relative_to(image)
    assert {file.name for file in packed.iterdir()} == {file.name for file in (ROOT / "sql" / "migrations").iterdir()}


def test_the_image_has_no_pip_and_no_test(image: Path) -> None:
    assert run(image, "python", "-m", "pip", "--version").returncode != 0
    packages = {path.name for path in image.glob("lib/python3*/site-packages/*")}
    assert {"worker", "confluent_kafka"} <= packages
    assert not packages & {"pytest", "hypothesis", "mypy", "tests", "kubernetes_validate"}


def test_the_probe_says_whether_the_process_lives(image: Path) -> None:
    told, exposed = only(stages()[1], "HEALTHCHECK").partition("CMD ")[2], only(stages()[1], "EXPOSE")
    assert f"SRE_HEALTH_ADDRESS=:{exposed}" in only(stages()[1], "ENV")
    port, reasons = free_port(), ["blocked"]
    command = json.loads(told.replace(f"127.0.0.1:{exposed}/", f"{LOOPBACK}:{port}/"))
    with serve_health(f"{LOOPBACK}:{port}", lambda: Check(state="active", reasons=tuple(reasons)), lambda: Check(state="active")):
        assert run(image, *command).returncode != 0
        reasons.clear()
        wait_until(lambda: run(image, *command).returncode == 0, 30, lambda: "still not live")
    assert run(image, *command).returncode != 0


def test_both_stages_are_of_one_base_that_is_pinned_by_digest() -> None:
    (base, other) = (only(stage, "FROM").removesuffix(" AS build") for stage in stages())
    assert base == other
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-trixie@sha256:[0-9a-f]{64}", base)


def test_the_image_is_of_the_user_that_the_manifests_name() -> None:
    uid, gid = map(int, only(stages()[1], "USER").split(":"))
    for name in ("sre-worker", "sre-relay"):
        template = pod_template(named(manifests("overlays/prod"), "Deployment", name))
        assert template is not None
        context = template["spec"]["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (uid, gid, gid)
    assert uid > 0


def test_the_last_stage_runs_nothing_and_takes_only_what_was_built() -> None:
    last = stages()[1]
    assert "RUN" not in {name for name, _ in last}
    assert only(last, "COPY") == f"--from=build {INSTALLED} {INSTALLED}"


def test_what_is_copied_is_let_through_to_the_engine() -> None:
    allowed = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")}
    copied = {one for name, rest in stages()[0] if name == "COPY" for one in rest.split()[:-1]}
    assert copied == allowed
