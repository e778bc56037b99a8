"""Our own rules for manifests: each gives what is wrong, in words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from tests.k8s.kustomize import containers, name_of, pod_template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.k8s.kustomize import Manifest

    Rule = Callable[[Manifest], Iterator[str]]

OURS: Final = "registry.example/sre-domain"
_DIGEST: Final = re.compile(r"@sha256:[0-9a-f]{64}$")
_RELEASE: Final = re.compile(re.escape(OURS) + r":\d+\.\d+\.\d+$")
_SERVICES: Final = ("Deployment", "StatefulSet", "DaemonSet")


def images_are_pinned(manifest: Manifest) -> Iterator[str]:
    """By digest; ours may have a release's version, until the release has written its digest."""
    images = [container["image"] for container in containers(manifest)]
    if manifest["kind"] == "Cluster":
        images.append(manifest["spec"]["imageName"])
    for image in images:
        if not _DIGEST.search(image) and not _RELEASE.fullmatch(image):
            yield f"image {image} is pinned by neither digest nor release"


def pods_are_restricted(manifest: Manifest) -> Iterator[str]:
    """Pod Security Standards, restricted, and the parts of it that a pod may leave to its containers are the pod's here."""
    template = pod_template(manifest)
    if template is None:
        return
    spec = template["spec"]
    context = spec.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or not context.get("runAsUser", 0) > 0:
        yield "runs as root, or doesn't say that it doesn't"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "has no seccomp profile"
    shared = {"hostNetwork", "hostPID", "hostIPC"} & {name for name, value in spec.items() if value}
    if shared or any("hostPath" in volume for volume in spec.get("volumes", [])):
        yield "shares something of its host"


def containers_are_restricted(manifest: Manifest) -> Iterator[str]:
    for container in containers(manifest):
        context = container.get("securityContext", {})
        wanted: dict[str, Any] = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        for name, value in wanted.items():
            if context.get(name) != value:
                yield f"container {container['name']}: {name} is {context.get(name)}, must be {value}"
        overruled = {"runAsUser", "runAsNonRoot", "privileged", "seccompProfile"} & set(context)
        if overruled:
            yield f"container {container['name']}: overrules its pod's {', '.join(sorted(overruled))}"


def resources_are_bounded(manifest: Manifest) -> Iterator[str]:
    found = [(container["name"], container.get("resources", {})) for container in containers(manifest)]
    if manifest["kind"] == "Cluster":
        found.append(("postgres", manifest["spec"].get("resources", {})))
    for name, resources in found:
        for bound in ("requests", "limits"):
            missing = {"cpu", "memory"} - set(resources.get(bound, {}))
            if missing:
                yield f"{name}: no {bound} of {', '.join(sorted(missing))}"


def services_are_probed(manifest: Manifest) -> Iterator[str]:
    if manifest["kind"] not in _SERVICES:
        return
    for container in containers(manifest):
        for probe, path in (("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
            if container.get(probe, {}).get("httpGet", {}).get("path") != path:
                yield f"{container['name']}: {probe} does not ask {path}"


def nobody_has_a_token(manifest: Manifest) -> Iterator[str]:
    template = pod_template(manifest)
    if template is not None:
        spec = template["spec"]
        if spec.get("automountServiceAccountToken") is not False:
            yield "mounts its account's token"
        if spec.get("serviceAccountName", "default") == "default":
            yield "runs under the default account"
    if manifest["kind"] == "ServiceAccount" and manifest.get("automountServiceAccountToken") is not False:
        yield "gives its token to pods"


def service_links_are_off(manifest: Manifest) -> Iterator[str]:
    """The variables of a Service sre-… begin with SRE_."""
    template = pod_template(manifest)
    if template is not None and template["spec"].get("enableServiceLinks") is not False:
        yield "takes the variables of Services for settings"


def no_secret_is_written_down(manifest: Manifest) -> Iterator[str]:
    if manifest["kind"] == "Secret":
        yield "is a Secret in a file"
    for container in containers(manifest):
        for variable in container.get("env", []):
            if "value" in variable and re.search("PASSWORD|SECRET$|TOKEN$|DATABASE_URL", variable["name"]):
                yield f"{container['name']}: {variable['name']} is written down"


def what_holds_data_is_kept(manifest: Manifest) -> Iterator[str]:
    """Argo CD deletes what is gone from git, and a topic's or a database's contents with it."""
    if manifest["kind"] in {"KafkaTopic", "KafkaUser", "Cluster", "Namespace"}:
        options = manifest["metadata"].get("annotations", {}).get("argocd.argoproj.io/sync-options", "").split(",")
        if not {"Prune=false", "Delete=false"} <= set(options):
            yield "is deleted when it is gone from git"


def roles_are_narrow(manifest: Manifest) -> Iterator[str]:
    if manifest["kind"] in {"ClusterRole", "ClusterRoleBinding"}:
        yield "gives rights in every namespace"
    for rule in manifest.get("rules", []) if manifest["kind"] == "Role" else []:
        if "*" in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]] or not rule.get("resourceNames"):
            yield "gives rights to more than what it names"


RULES: Final[tuple[Rule, ...]] = (
    images_are_pinned,
    pods_are_restricted,
    containers_are_restricted,
    resources_are_bounded,
    services_are_probed,
    nobody_has_a_token,
    service_links_are_off,
    no_secret_is_written_down,
    what_holds_data_is_kept,
    roles_are_narrow,
)


def faults(found: list[Manifest]) -> list[str]:
    """What is wrong with these manifests, a line each."""
    return [f"{name_of(manifest)}: {fault}" for manifest in found for rule in RULES for fault in rule(manifest)]
