"""The manifests fit each other, and the program that they run: names that are referred to, settings, rights of the network, times."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from typer.main import get_command

from k8s.generate import USERS
from tests.k8s.kustomize import OVERLAYS, TREES, containers, manifests, name_of, named, of_kind, pod_template
from worker import service
from worker.cli.main import app
from worker.relay import waiting
from worker.settings import DatabaseSettings, Settings
from worker.topics import PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.k8s.kustomize import Manifest

PROCESSES = {
    "sre-worker": ("Deployment", Settings),
    "sre-relay": ("Deployment", Settings),
    "sre-sweep": ("CronJob", Settings),
    "sre-migrate": ("Job", DatabaseSettings),
    "sre-migrate-post": ("Job", DatabaseSettings),
}
MIGRATIONS = {"sre-migrate": "PreSync", "sre-migrate-post": "PostSync"}
OPERATORS_OWN = {("Secret", "postgres-ca")}  # CloudNativePG makes it beside its Cluster


def pods(tree: str) -> list[tuple[Manifest, Manifest]]:
    found = [(manifest, pod_template(manifest)) for manifest in manifests(tree)]
    return [(manifest, template) for manifest, template in found if template is not None]


def made(found: list[Manifest]) -> set[tuple[str, str]]:
    """Secrets and ConfigMaps, ServiceAccounts and others that there are in the namespace, by kind and name."""
    secrets = {("Secret", one["spec"]["target"]["name"]) for one in of_kind(found, "ExternalSecret")}
    return secrets | OPERATORS_OWN | {(one["kind"], one["metadata"]["name"]) for one in found}


def referred_to(template: Manifest) -> Iterator[tuple[str, str]]:
    spec = template["spec"]
    yield "ServiceAccount", spec["serviceAccountName"]
    for volume in spec["volumes"]:
        for source in volume.get("projected", {}).get("sources", []):
            yield "Secret", source["secret"]["name"]
    for container in spec["containers"]:
        for source in container.get("envFrom", []):
            yield "ConfigMap", source["configMapRef"]["name"]


@pytest.mark.parametrize("tree", OVERLAYS)
def test_what_a_pod_refers_to_is_there(tree: str) -> None:
    found = made(manifests(tree))
    assert [(name_of(one), ref) for one, template in pods(tree) for ref in referred_to(template) if ref not in found] == []


@pytest.mark.parametrize("tree", OVERLAYS)
def test_what_the_database_and_keda_refer_to_is_there(tree: str) -> None:
    found = manifests(tree)
    database, there = named(found, "Cluster", "postgres")["spec"], made(found)
    secrets = {role["passwordSecret"]["name"] for role in database["managed"]["roles"]} | {
        database["bootstrap"]["initdb"]["secret"]["name"]
    }
    secrets |= {target["name"] for target in named(found, "TriggerAuthentication", "sre-scaler")["spec"]["secretTargetRef"]}
    assert {("Secret", name) for name in secrets} <= there
    (reference,) = database["bootstrap"]["initdb"]["postInitApplicationSQLRefs"]["configMapRefs"]
    assert reference["key"] in named(found, "ConfigMap", reference["name"])["data"]


def test_a_secrets_store_copies_what_strimzi_makes() -> None:
    found = manifests("overlays/prod")
    copied = {
        (data["remoteRef"]["key"], data["remoteRef"]["property"])
        for one in of_kind(found, "ExternalSecret")
        if one["spec"].get("secretStoreRef", {}).get("kind") == "SecretStore"
        for data in one["spec"]["data"]
    }
    assert copied == {*((user, "password") for user in USERS), ("kafka-cluster-ca-cert", "ca.crt")}
    (rule,) = named(found, "Role", "sre-domain-secret-reader")["rules"]
    assert set(rule["resourceNames"]) == {key for key, _ in copied}


def environment(tree: str, name: str, directory: Path) -> dict[str, str]:
    """What the process finds in its environment, with its files, filled as External Secrets would, below `directory`."""
    found = manifests(tree)
    manifest = named(found, PROCESSES[name][0], name)
    (container,) = containers(manifest)
    template = pod_template(manifest)
    assert template is not None
    sources = [named(found, "ConfigMap", source["configMapRef"]["name"])["data"] for source in container.get("envFrom", [])]
    variables = {key: value for data in sources for key, value in data.items()} | {one["name"]: one["value"] for one in container["env"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    for volume in template["spec"]["volumes"]:
        for source in volume.get("projected", {}).get("sources", []):
            for item in source["secret"]["items"]:
                file = directory / mounts[volume["name"]].lstrip("/") / item["path"]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(secret_value(found, source["secret"]["name"], item["key"]), encoding="utf-8")
    return {key: re.sub(r"^/(run|etc)/", rf"{directory}/\1/", value) for key, value in variables.items()}


def secret_value(found: list[Manifest], secret: str, key: str) -> str:
    """As the template of its ExternalSecret makes it, where it has one."""
    if ("Secret", secret) in OPERATORS_OWN:
        assert key == "ca.crt"
        return "a certificate"
    target = named(found, "ExternalSecret", secret)["spec"]
    template = target["target"].get("template", {}).get("data", {})
    if key in template:
        return str(template[key]).replace("{{ .password }}", "s3cret")
    assert key in {data["secretKey"] for data in target["data"]}
    return "s3cret"


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("tree", OVERLAYS)
def test_a_process_can_read_its_settings(tree: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in environment(tree, name, tmp_path).items():
        monkeypatch.setenv(key, value)
    settings = PROCESSES[name][1].from_environment()
    logins = {"sre-worker": "sre_worker", "sre-sweep": "sre_worker", "sre-relay": "sre_mover"} | dict.fromkeys(MIGRATIONS, "sre_migrator")
    assert urlsplit(settings.writer_dsn).username == logins[name]
    assert urlsplit(settings.relay_dsn).username == ("sre_mover" if name in MIGRATIONS else logins[name])
    assert "sslmode=verify-full" in settings.writer_dsn
    if isinstance(settings, Settings):
        assert settings.kafka_sasl_username == name
        assert settings.consumer_group == Settings.model_fields["consumer_group"].default  # which the users' rights name


def test_every_setting_is_one(tmp_path: Path) -> None:
    known = {f"SRE_{field.upper()}" for field in Settings.model_fields} | {"SRE_SECRETS_DIR"}
    assert {key for name in PROCESSES for key in environment("overlays/prod", name, tmp_path)} <= known


@pytest.mark.parametrize("tree", OVERLAYS)
def test_every_container_runs_a_command_that_there_is(tree: str) -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for manifest, _ in pods(tree):
        for container in containers(manifest):
            name, *options = container["args"]
            assert set(options) <= {option for parameter in commands[name].params for option in parameter.opts}


@pytest.mark.parametrize("tree", OVERLAYS)
def test_a_service_has_the_time_that_it_needs_to_stop(tree: str) -> None:
    needed = {"sre-worker": service._STOP_SECONDS, "sre-relay": 10 * waiting.GRACE_SECONDS}
    for name, seconds in needed.items():
        assert named(manifests(tree), "Deployment", name)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > seconds + 5


def test_there_are_never_more_workers_than_partitions() -> None:
    scaled = named(manifests("overlays/prod"), "ScaledObject", "sre-worker")["spec"]
    assert scaled["maxReplicaCount"] == PARTITIONS
    assert scaled["minReplicaCount"] >= 2
    assert "replicas" not in named(manifests("overlays/prod"), "Deployment", "sre-worker")["spec"]
    (trigger,) = scaled["triggers"]
    assert trigger["metadata"]["consumerGroup"] == Settings.model_fields["consumer_group"].default


def test_a_relay_stands_by_and_a_drain_leaves_one() -> None:
    found = manifests("overlays/prod")
    assert named(found, "Deployment", "sre-relay")["spec"]["replicas"] == 2
    for name in ("sre-worker", "sre-relay"):
        budget = named(found, "PodDisruptionBudget", name)["spec"]
        assert (budget["maxUnavailable"], budget["selector"]) == (1, named(found, "Deployment", name)["spec"]["selector"])


@pytest.mark.parametrize("tree", OVERLAYS)
def test_the_slot_may_not_fill_the_wal_volume(tree: str) -> None:
    database = named(manifests(tree), "Cluster", "postgres")["spec"]
    kept, volume = database["postgresql"]["parameters"]["max_slot_wal_keep_size"], database["walStorage"]["size"]
    assert int(kept.removesuffix("GB")) <= 0.75 * int(volume.removesuffix("Gi"))


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    expressions = selector.get("matchExpressions", [])
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(one["key"]) in one["values"] for one in expressions if one["operator"] == "In"
    )


@pytest.mark.parametrize(
    ("policy", "who"),
    [
        ("default-deny", {"sre-worker", "sre-relay", "sre-sweep", "sre-migrate"}),
        ("to-dns", {"sre-worker", "sre-relay", "sre-sweep", "sre-migrate"}),
        ("to-kafka", {"sre-worker", "sre-relay", "sre-sweep"}),
        ("to-postgres", {"sre-worker", "sre-relay", "sre-sweep", "sre-migrate"}),
        ("from-prometheus", {"sre-worker", "sre-relay"}),
        ("postgres", set()),
    ],
)
def test_a_network_policy_is_for_whom_it_is_meant(policy: str, who: set[str]) -> None:
    selector = named(manifests("overlays/prod"), "NetworkPolicy", policy)["spec"]["podSelector"]
    labels = [template["metadata"]["labels"] for _, template in pods("overlays/prod")]
    assert {carried["app.kubernetes.io/name"] for carried in labels if selects(selector, carried)} == who


def test_what_is_allowed_out_is_where_the_settings_lead(tmp_path: Path) -> None:
    found = manifests("overlays/prod")
    variables = environment("overlays/prod", "sre-worker", tmp_path)
    ports = {name: named(found, "NetworkPolicy", name)["spec"]["egress"][0]["ports"][0]["port"] for name in ("to-kafka", "to-postgres")}
    assert variables["SRE_KAFKA_BOOTSTRAP_SERVERS"].endswith(f".kafka.svc:{ports['to-kafka']}")
    assert urlsplit(secret_value(found, "sre-worker-database", "SRE_DATABASE_URL")).port == ports["to-postgres"]
    (allowed,) = named(found, "NetworkPolicy", "from-prometheus")["spec"]["ingress"][0]["ports"]
    assert variables["SRE_HEALTH_ADDRESS"] == f":{allowed['port']}"


def test_prometheus_finds_every_service() -> None:
    found = manifests("overlays/prod")
    monitor = named(found, "ServiceMonitor", "sre-domain")["spec"]
    services = list(of_kind(found, "Service"))
    assert {one["metadata"]["name"] for one in services if selects(monitor["selector"], one["metadata"]["labels"])} == {
        "sre-worker",
        "sre-relay",
    }
    for one in services:
        assert [port["name"] for port in one["spec"]["ports"]] == [endpoint["port"] for endpoint in monitor["endpoints"]]
        assert selects(
            {"matchLabels": one["spec"]["selector"]},
            named(found, "Deployment", one["metadata"]["name"])["spec"]["template"]["metadata"]["labels"],
        )


def test_argo_cd_may_apply_what_the_applications_hold() -> None:
    project = named(manifests("gitops"), "AppProject", "sre-domain")["spec"]
    allowed = {(one["group"], one["kind"]) for one in [*project["clusterResourceWhitelist"], *project["namespaceResourceWhitelist"]]}
    used = {((one["apiVersion"].rpartition("/")[0]), one["kind"]) for tree in ("overlays/prod", "gitops") for one in manifests(tree)}
    assert used == allowed
    namespaces = {one["namespace"] for one in project["destinations"]}
    assert {
        one["metadata"]["namespace"] for tree in ("overlays/prod", "gitops") for one in manifests(tree) if one["kind"] != "Namespace"
    } == namespaces


def test_the_schema_is_there_before_anything_runs_and_its_database_before_that() -> None:
    applications = {one["spec"]["source"]["path"]: one for one in of_kind(manifests("gitops"), "Application")}
    waves = {path: int(one["metadata"].get("annotations", {}).get("argocd.argoproj.io/sync-wave", 0)) for path, one in applications.items()}
    assert waves["k8s/overlays/prod/platform"] < waves["k8s/overlays/prod/services"]
    for tree in ("overlays/prod/platform", "overlays/prod/services"):
        assert f"k8s/{tree}" in applications
    assert "Cluster" in {one["kind"] for one in manifests("overlays/prod/platform")}


def test_what_the_old_version_still_needs_is_taken_away_only_after_it_is_gone() -> None:
    jobs = {name: named(manifests("overlays/prod/services"), "Job", name) for name in MIGRATIONS}
    assert {name: job["metadata"]["annotations"]["argocd.argoproj.io/hook"] for name, job in jobs.items()} == MIGRATIONS
    assert {name: containers(job)[0]["args"] for name, job in jobs.items()} == {
        "sre-migrate": ["migrate", "--pre"],
        "sre-migrate-post": ["migrate"],
    }


def test_the_first_migration_needs_nothing_that_comes_after_it() -> None:
    template = pod_template(named(manifests("overlays/prod"), "Job", "sre-migrate"))
    assert template is not None
    assert set(referred_to(template)) <= made(manifests("overlays/prod/platform"))


@pytest.mark.parametrize("tree", TREES)
def test_everything_is_in_a_namespace_that_it_names(tree: str) -> None:
    assert [name_of(one) for one in manifests(tree) if one["kind"] != "Namespace" and not one["metadata"].get("namespace")] == []
