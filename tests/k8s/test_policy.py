"""The manifests keep our own rules, and a copy that breaks one is found out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.k8s.kustomize import OVERLAYS, containers, manifests, named, pod_template
from tests.k8s.policy import RULES, faults

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.k8s.kustomize import Manifest


@pytest.mark.parametrize("tree", OVERLAYS)
def test_the_manifests_keep_every_rule(tree: str) -> None:
    assert faults(manifests(tree)) == []


def container(manifest: Manifest) -> Manifest:
    return containers(manifest)[0]


def spec(manifest: Manifest) -> Manifest:
    template = pod_template(manifest)
    assert template is not None
    found: Manifest = template["spec"]
    return found


def with_context(**changes: Any) -> Callable[[Manifest], None]:  # noqa: ANN401 - whatever a field takes
    return lambda manifest: container(manifest)["securityContext"].update(changes)


def without(*path: str) -> Callable[[Manifest], None]:
    def leave_out(manifest: Manifest) -> None:
        for name in path[:-1]:
            manifest = manifest[name]
        del manifest[path[-1]]

    return leave_out


WORKER, RELAY, SWEEP = ("Deployment", "sre-worker"), ("Deployment", "sre-relay"), ("CronJob", "sre-sweep")
DATABASE = ("Cluster", "postgres")
BREAKS: dict[str, tuple[tuple[str, str], Callable[[Manifest], None], str]] = {
    "latest": (WORKER, lambda m: container(m).update(image="registry.example/sre-domain:latest"), "images_are_pinned"),
    "no tag": (SWEEP, lambda m: container(m).update(image="registry.example/sre-domain"), "images_are_pinned"),
    "another's release": (RELAY, lambda m: container(m).update(image="docker.io/busybox:1.37.0"), "images_are_pinned"),
    "half a digest": (WORKER, lambda m: container(m).update(image="registry.example/sre-domain@sha256:abc"), "images_are_pinned"),
    "the database's tag": (DATABASE, lambda m: m["spec"].update(imageName="ghcr.io/cloudnative-pg/postgresql:18"), "images_are_pinned"),
    "root": (WORKER, lambda m: spec(m)["securityContext"].update(runAsUser=0), "pods_are_restricted"),
    "root allowed": (SWEEP, lambda m: spec(m)["securityContext"].pop("runAsNonRoot"), "pods_are_restricted"),
    "no seccomp": (RELAY, lambda m: spec(m)["securityContext"].pop("seccompProfile"), "pods_are_restricted"),
    "the host's network": (WORKER, lambda m: spec(m).update(hostNetwork=True), "pods_are_restricted"),
    "the host's files": (WORKER, lambda m: spec(m)["volumes"].append({"name": "x", "hostPath": {"path": "/"}}), "pods_are_restricted"),
    "a writable root": (RELAY, with_context(readOnlyRootFilesystem=False), "containers_are_restricted"),
    "escalation": (SWEEP, with_context(allowPrivilegeEscalation=True), "containers_are_restricted"),
    "a capability kept": (WORKER, with_context(capabilities={"drop": ["NET_RAW"]}), "containers_are_restricted"),
    "a capability added": (WORKER, with_context(capabilities={"drop": ["ALL"], "add": ["CHOWN"]}), "containers_are_restricted"),
    "a container as root": (WORKER, with_context(runAsUser=0), "containers_are_restricted"),
    "no limit of memory": (WORKER, lambda m: container(m)["resources"]["limits"].pop("memory"), "resources_are_bounded"),
    "no request of CPU": (SWEEP, lambda m: container(m)["resources"]["requests"].pop("cpu"), "resources_are_bounded"),
    "an unbounded database": (DATABASE, without("spec", "resources"), "resources_are_bounded"),
    "not probed": (WORKER, lambda m: container(m).pop("livenessProbe"), "services_are_probed"),
    "ready when it lives": (RELAY, lambda m: container(m)["readinessProbe"]["httpGet"].update(path="/livez"), "services_are_probed"),
    "a token": (WORKER, lambda m: spec(m).pop("automountServiceAccountToken"), "nobody_has_a_token"),
    "the default account": (SWEEP, lambda m: spec(m).pop("serviceAccountName"), "nobody_has_a_token"),
    "an account with a token": (("ServiceAccount", "sre-relay"), without("automountServiceAccountToken"), "nobody_has_a_token"),
    "service links": (WORKER, lambda m: spec(m).pop("enableServiceLinks"), "service_links_are_off"),
    "a password": (
        RELAY,
        lambda m: container(m)["env"].append({"name": "SRE_KAFKA_SASL_PASSWORD", "value": "x"}),
        "no_secret_is_written_down",
    ),
    "a secret": (("ConfigMap", "postgres-roles"), lambda m: m.update(kind="Secret"), "no_secret_is_written_down"),
    "a topic pruned": (("KafkaTopic", "sre.slo.facts.v1"), without("metadata", "annotations"), "what_holds_data_is_kept"),
    "a database pruned": (DATABASE, without("metadata", "annotations"), "what_holds_data_is_kept"),
    "every secret": (("Role", "sre-domain-secret-reader"), lambda m: m["rules"][0].pop("resourceNames"), "roles_are_narrow"),
    "every namespace": (("Role", "sre-domain-secret-reader"), lambda m: m.update(kind="ClusterRole"), "roles_are_narrow"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_rule_finds_a_copy_that_breaks_it(name: str) -> None:
    (kind, which), breaking, rule = BREAKS[name]
    manifest = named(manifests("overlays/prod"), kind, which)
    breaking(manifest)
    assert [one.__name__ for one in RULES if list(one(manifest))] == [rule]


def test_every_rule_has_been_seen_red() -> None:
    assert {rule for _, _, rule in BREAKS.values()} == {rule.__name__ for rule in RULES}
