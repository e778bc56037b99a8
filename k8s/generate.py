"""Writes the manifests that follow from the code: `python k8s/generate.py`. tests/k8s/test_generated.py holds that they are current."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

import yaml
from confluent_kafka.admin import ResourceType

from k8s.dashboard import dashboard
from k8s.slos import groups
from worker.acls import Job, rights_of
from worker.domain.aggregate import AGGREGATES
from worker.package_data import SQL
from worker.settings import DatabaseSettings, Settings
from worker.topics import PARTITIONS, topic_specs

if TYPE_CHECKING:
    from worker.acls import Right
    from worker.topics import TopicSpec

BASE: Final = Path(__file__).parent / "base"
NOTE: Final = "# Written by k8s/generate.py: change what it reads, and run it again.\n"
KAFKA: Final = {"namespace": "kafka", "labels": {"strimzi.io/cluster": "kafka"}}
# Argo CD takes a topic's data with it when it prunes the topic, and a user's login with the user.
KEEP: Final = {"argocd.argoproj.io/sync-options": "Prune=false,Delete=false"}

# Who logs in to Kafka, and the aggregates it has to do with. Topics are made by the operator, so nobody here is an admin.
USERS: Final[dict[str, tuple[Job, tuple[str, ...]]]] = {
    "sre-worker": (Job.WORKER, tuple(AGGREGATES)),
    "sre-relay": (Job.RELAY, tuple(AGGREGATES)),
    "sre-sweep": (Job.PUBLISHER, ("runbook",)),
    "sre-scaler": (Job.SCALER, tuple(AGGREGATES)),
}
_RESOURCES: Final = {
    ResourceType.TOPIC: "topic",
    ResourceType.GROUP: "group",
    ResourceType.TRANSACTIONAL_ID: "transactionalId",
}


def files() -> dict[Path, str]:
    """What each file must hold."""
    topics = [topic(spec) for spec in topic_specs(tuple(AGGREGATES))]
    users = [user(name, job, aggregates) for name, (job, aggregates) in USERS.items()]
    rules = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "sre-domain"},
        "spec": {"groups": groups()},
    }
    return {
        BASE / "platform" / "topics.yaml": NOTE + yaml.safe_dump_all(topics, sort_keys=False, width=140),
        BASE / "platform" / "users.yaml": NOTE + yaml.safe_dump_all(users, sort_keys=False, width=140),
        BASE / "platform" / "roles.sql": (SQL / "roles.sql").read_text(encoding="utf-8"),  # kustomize reads nothing above its directory
        BASE / "services" / "alerts.yaml": NOTE + yaml.safe_dump(rules, sort_keys=False, width=140),
        BASE / "services" / "dashboard.json": json.dumps(dashboard(), indent=2) + "\n",
    }


def topic(spec: TopicSpec) -> dict[str, Any]:
    """Without `replicas`: the brokers' default.replication.factor, as `sre-domain topics` has it."""
    return {
        "apiVersion": "kafka.strimzi.io/v1",
        "kind": "KafkaTopic",
        "metadata": {"name": spec.name, **_copy(KAFKA), "annotations": dict(KEEP)},
        "spec": {"partitions": spec.partitions or PARTITIONS, "config": dict(spec.config)},
    }


def user(name: str, job: Job, aggregates: tuple[str, ...]) -> dict[str, Any]:
    """The password is made by the operator, in a Secret of the user's name."""
    group = str(Settings.model_fields["consumer_group"].default)
    slot = str(DatabaseSettings.model_fields["relay_slot"].default)
    rights = rights_of(job, aggregates, consumer_group=group, slot=slot)
    return {
        "apiVersion": "kafka.strimzi.io/v1",
        "kind": "KafkaUser",
        "metadata": {"name": name, **_copy(KAFKA), "annotations": dict(KEEP)},
        "spec": {
            "authentication": {"type": "scram-sha-512"},
            "authorization": {"type": "simple", "acls": [acl(right) for right in rights]},
        },
    }


def acl(right: Right) -> dict[str, Any]:
    resource = {"type": _RESOURCES[right.resource], "name": right.name, "patternType": "literal"}
    operations = ["".join(word.capitalize() for word in operation.name.split("_")) for operation in right.operations]
    return {"resource": resource, "operations": operations}


def _copy(metadata: dict[str, Any]) -> dict[str, Any]:
    """Of its own for each document, since YAML would write anchors."""
    return {key: dict(value) if isinstance(value, dict) else value for key, value in metadata.items()}


if __name__ == "__main__":
    for file, text in files().items():
        file.write_text(text, encoding="utf-8")
