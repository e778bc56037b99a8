"""Every manifest is what its kind's schema asks for: Kubernetes' own, and those of the operators (tests/k8s/crds.py)."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
from jsonschema import Draft202012Validator

from tests.k8s.crds import SCHEMAS
from tests.k8s.kustomize import OVERLAYS, TREES, manifests, name_of, named

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.k8s.kustomize import Manifest

KUBERNETES = ("1.33", "1.37")  # the oldest and the newest that it is for
OPERATORS = {file.stem: Draft202012Validator(json.loads(file.read_text(encoding="utf-8"))) for file in SCHEMAS.glob("*.json")}


def faults(manifest: Manifest, version: str) -> list[str]:
    name = name_of(manifest)
    if manifest["kind"] in OPERATORS:
        return [f"{name}: {error.json_path}: {error.message}" for error in OPERATORS[manifest["kind"]].iter_errors(manifest)]
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{name}: {'.'.join(map(str, error.path))}: {error.message}"]
    return []


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("tree", TREES)
def test_every_manifest_fits_the_schema_of_its_kind(tree: str, version: str) -> None:
    assert [fault for manifest in manifests(tree) for fault in faults(manifest, version)] == []


def test_no_two_manifests_have_one_name() -> None:
    for tree in OVERLAYS:
        seen: dict[tuple[str, ...], int] = defaultdict(int)
        for manifest in manifests(tree):
            metadata = manifest["metadata"]
            seen[manifest["apiVersion"], manifest["kind"], metadata.get("namespace", ""), metadata["name"]] += 1
        assert [name for name, count in seen.items() if count > 1] == []


BREAKS: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "a misspelt field": ("Deployment", "sre-relay", lambda m: m["spec"].update(replica=2)),
    "a field in the wrong place": ("Job", "sre-migrate", lambda m: m["spec"].update(restartPolicy="Never")),
    "a port as a word": ("Service", "sre-worker", lambda m: m["spec"]["ports"][0].update(port="http")),
    "no schedule": ("CronJob", "sre-sweep", lambda m: m["spec"].pop("schedule")),
    "a rule without a place": ("NetworkPolicy", "to-kafka", lambda m: m["spec"]["egress"][0].update(too=[])),
    "no partitions": ("KafkaTopic", "sre.slo.facts.v1", lambda m: m["spec"].update(partitions=0)),
    "an operation that Kafka has not": (
        "KafkaUser",
        "sre-relay",
        lambda m: m["spec"]["authorization"]["acls"][0].update(operations=["Publish"]),
    ),
    "a login that Strimzi has not": ("KafkaUser", "sre-worker", lambda m: m["spec"]["authentication"].update(type="plain")),
    "a misspelt option of the database": ("Cluster", "postgres", lambda m: m["spec"].update(replicationSlot={})),
    "too few instances": ("Cluster", "postgres", lambda m: m["spec"].update(instances=0)),
    "a fallback that KEDA has not": ("ScaledObject", "sre-worker", lambda m: m["spec"]["fallback"].update(behavior="most")),
    "a secret without a key": ("TriggerAuthentication", "sre-scaler", lambda m: m["spec"]["secretTargetRef"][0].pop("key")),
    "an alert that waits for a word": (
        "PrometheusRule",
        "sre-domain",
        lambda m: m["spec"]["groups"][2]["rules"][0].update({"for": "soon"}),
    ),
    "a scrape without a selector": ("ServiceMonitor", "sre-domain", lambda m: m["spec"].pop("selector")),
    "a store of another kind": ("ExternalSecret", "kafka-ca", lambda m: m["spec"]["secretStoreRef"].update(kind="Vault")),
    "a store without its server": ("SecretStore", "kafka", lambda m: m["spec"]["provider"]["kubernetes"].update(auth="none")),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_schema_finds_what_its_server_would_refuse(name: str) -> None:
    kind, which, breaking = BREAKS[name]
    manifest = named(manifests("overlays/prod"), kind, which)
    breaking(manifest)
    assert len(faults(manifest, KUBERNETES[-1])) == 1


def test_every_operators_kind_is_used() -> None:
    used = {manifest["kind"] for tree in TREES for manifest in manifests(tree)}
    assert set(OPERATORS) <= used
