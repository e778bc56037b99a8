"""What is written from the code is current."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from k8s.generate import USERS, files
from tests.k8s.kustomize import manifests, named, of_kind
from worker.acls import Job
from worker.domain.aggregate import AGGREGATES
from worker.topics import WATERMARK_TOPIC, facts_topic, topic_specs

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("file", files(), ids=lambda file: file.name)
def test_a_written_file_is_current(file: Path) -> None:
    assert file.read_text(encoding="utf-8") == files()[file], "run python k8s/generate.py"


def test_the_topics_are_those_of_the_contract() -> None:
    topics = list(of_kind(manifests("overlays/prod"), "KafkaTopic"))
    assert {topic["metadata"]["name"] for topic in topics} == {spec.name for spec in topic_specs(tuple(AGGREGATES))}
    assert {topic["metadata"]["name"]: topic["spec"]["partitions"] for topic in topics}[WATERMARK_TOPIC] == 1


def test_only_the_relays_user_may_write_facts() -> None:
    writers = {
        user["metadata"]["name"]
        for user in of_kind(manifests("overlays/prod"), "KafkaUser")
        for acl in user["spec"]["authorization"]["acls"]
        if acl["resource"]["name"] == facts_topic("slo") and "Write" in acl["operations"]
    }
    assert writers == {"sre-relay"}


def test_the_sweep_may_write_to_the_one_topic_that_it_asks_on() -> None:
    (acl,) = named(manifests("overlays/prod"), "KafkaUser", "sre-sweep")["spec"]["authorization"]["acls"]
    assert acl == {"resource": {"type": "topic", "name": "sre.runbook.intents.v1", "patternType": "literal"}, "operations": ["Write"]}


def test_nobody_may_make_topics_but_the_operator() -> None:
    assert Job.ADMIN not in {job for job, _ in USERS.values()}
