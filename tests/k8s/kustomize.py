"""The manifests as `kustomize build` gives them."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import yaml

from worker.devstack.files import cache_directory, make_once

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
K8S: Final = ROOT / "k8s"
OVERLAYS: Final = ("overlays/dev", "overlays/prod")
TREES: Final = (*OVERLAYS, "gitops")
VERSION: Final = "v5.7.1"

Manifest = dict[str, Any]


def kustomize() -> str:
    """The program, built once from its Go module; the one that lies in the cache already, if any."""
    directory = make_once(cache_directory() / f"kustomize-{VERSION}", _install)
    return str(directory / "kustomize")


def _install(directory: Path) -> None:
    go = shutil.which("go")
    assert go is not None, "go is needed to build kustomize"
    module = f"sigs.k8s.io/kustomize/kustomize/v5@{VERSION}"
    environment = {**os.environ, "GOBIN": str(directory), "GOFLAGS": "-modcacherw"}
    done = subprocess.run([go, "install", module], env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr


@cache
def built(tree: str) -> str:
    done = subprocess.run([kustomize(), "build", str(K8S / tree)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # what it deprecates it says there
    return done.stdout


def manifests(tree: str) -> list[Manifest]:
    """Each time anew, so that a test may break them."""
    return list(yaml.safe_load_all(built(tree)))


def of_kind(found: list[Manifest], *kinds: str) -> Iterator[Manifest]:
    return (manifest for manifest in found if manifest["kind"] in kinds)


def named(found: list[Manifest], kind: str, name: str) -> Manifest:
    (manifest,) = (one for one in of_kind(found, kind) if one["metadata"]["name"] == name)
    return manifest


def name_of(manifest: Manifest) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def pod_template(manifest: Manifest) -> Manifest | None:
    """Of what makes pods; None for everything else."""
    match manifest["kind"]:
        case "Deployment" | "StatefulSet" | "DaemonSet" | "Job":
            return cast("Manifest", manifest["spec"]["template"])
        case "CronJob":
            return cast("Manifest", manifest["spec"]["jobTemplate"]["spec"]["template"])
        case "Pod":
            return manifest
        case _:
            return None


def containers(manifest: Manifest) -> list[Manifest]:
    template = pod_template(manifest)
    if template is None:
        return []
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]
