"""The table of rights is what the code says, and the code gives nobody what is another's."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest
from confluent_kafka.admin import AclOperation, ResourceType

from worker.acls import Job, Right, rights_of
from worker.domain.aggregate import AGGREGATES
from worker.topics import REJECTED_TOPIC, WATERMARK_TOPIC, facts_topic, intents_topic

PAGE = (Path(__file__).parents[2] / "docs" / "transport.md").read_text(encoding="utf-8")
GROUP, SLOT = "the-group", "the_slot"
NAMES = {
    "sre.*.intents.v1": [intents_topic(name) for name in AGGREGATES],
    "sre.*.facts.v1": [facts_topic(name) for name in AGGREGATES],
    "SRE_CONSUMER_GROUP": [GROUP],
    "SRE_RELAY_SLOT": [SLOT],
}
KINDS = {"topics": ResourceType.TOPIC, "group": ResourceType.GROUP, "transactional id": ResourceType.TRANSACTIONAL_ID}
OPERATIONS = {operation.name.replace("_", ""): operation for operation in AclOperation}


def documented() -> dict[str, set[Right]]:
    """The rows of the table, by job."""
    section = PAGE.split("\n## Rights at the brokers\n")[1].split("\n## ")[0]
    rights: dict[str, set[Right]] = defaultdict(set)
    for job, kind, names, operations in re.findall(r"^\| `(\w+)` \| ([a-z ]+?) (`.*`) \| (.*) \|$", section, re.MULTILINE):
        allowed = tuple(OPERATIONS[operation.upper()] for operation in operations.split(", "))
        for name in re.findall(r"`([^`]+)`", names):
            rights[job] |= {Right(KINDS[kind], whole, allowed) for whole in NAMES.get(name, [name])}
    return rights


def rights(job: Job) -> tuple[Right, ...]:
    return rights_of(job, tuple(AGGREGATES), consumer_group=GROUP, slot=SLOT)


def test_the_page_lists_the_rights_of_each_job() -> None:
    assert documented() == {job: set(rights(job)) for job in Job}


@pytest.mark.parametrize("operation", [AclOperation.WRITE, AclOperation.ALL, AclOperation.ALTER, AclOperation.DELETE])
def test_only_the_relay_may_change_what_is_published(operation: AclOperation) -> None:
    published = {*NAMES["sre.*.facts.v1"], REJECTED_TOPIC, WATERMARK_TOPIC}
    who = {job for job in Job for right in rights(job) if right.name in published and operation in right.operations}
    assert who == ({Job.RELAY} if operation is AclOperation.WRITE else set())


def test_a_publisher_of_one_aggregate_has_the_right_to_its_topic_alone() -> None:
    assert rights_of(Job.PUBLISHER, ["slo"], consumer_group=GROUP, slot=SLOT) == (
        Right(ResourceType.TOPIC, "sre.slo.intents.v1", (AclOperation.WRITE,)),
    )
