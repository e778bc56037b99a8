"""Makes the topics of the bus, compares those that exist with what they must be, and reads how many partitions they have."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import ConfigResource, NewTopic, ResourceType

from worker.errors import WorkerError
from worker.kafka_metadata import connected_admin
from worker.topics import PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from confluent_kafka.admin import AdminClient, TopicMetadata

    from worker.settings import KafkaSettings
    from worker.topics import TopicSpec

_TIMEOUT_SECONDS = 15.0
_POLL_SECONDS = 0.05


class TopicsUnavailableError(WorkerError):
    """The broker does not answer or lacks a topic; worth another try."""


@dataclass(frozen=True, slots=True)
class TopicReport:
    """What was made, and one sentence for each setting of a topic that is not as it must be."""

    created: tuple[str, ...]
    differences: tuple[str, ...]


def make_topics(settings: KafkaSettings, specs: Sequence[TopicSpec], partitions: int | None = None) -> TopicReport:
    """Make the topics that are missing, with the broker's replication factor, and compare the others; changes none that exists.

    `partitions` is the number for topics that leave it open: 12 where it is None, and then not compared. Raises TopicsUnavailableError.
    """
    try:
        admin, _ = connected_admin(settings, _TIMEOUT_SECONDS)
        created = _create(admin, specs, partitions or PARTITIONS)
        counts = _counts_when_ready(admin, {spec.name for spec in specs})
        configs = _configs(admin, specs)
    except KafkaException as error:
        raise _unavailable(settings, error) from error
    differences = [line for spec in specs for line in _differences(spec, counts[spec.name], partitions, configs[spec.name])]
    return TopicReport(created, tuple(differences))


def partition_counts(settings: KafkaSettings, names: Collection[str]) -> dict[str, int]:
    """The number of partitions of each topic. Raises TopicsUnavailableError."""
    try:
        _, topics = connected_admin(settings, _TIMEOUT_SECONDS)
    except KafkaException as error:
        raise _unavailable(settings, error) from error
    missing = [name for name in names if name not in topics or topics[name].error]
    if missing:
        raise TopicsUnavailableError(f"topics are missing, or this login may not see them; `sre-domain topics` makes: {_list(missing)}")
    return {name: len(topics[name].partitions) for name in names}


def _create(admin: AdminClient, specs: Sequence[TopicSpec], partitions: int) -> tuple[str, ...]:
    topics = [NewTopic(spec.name, spec.partitions or partitions, config=dict(spec.config)) for spec in specs]
    created = []
    for name, future in admin.create_topics(topics, operation_timeout=_TIMEOUT_SECONDS, request_timeout=_TIMEOUT_SECONDS).items():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
        else:
            created.append(name)
    return tuple(created)


def _counts_when_ready(admin: AdminClient, names: Collection[str]) -> dict[str, int]:
    """Partition counts, once each partition has a leader: the broker hears from the controller of new topics after the client does."""
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while True:
        topics = admin.list_topics(timeout=_TIMEOUT_SECONDS).topics
        if all(name in topics and _is_ready(topics[name]) for name in names):
            return {name: len(topics[name].partitions) for name in names}
        if time.monotonic() > deadline:
            raise TopicsUnavailableError(f"no leader within {_TIMEOUT_SECONDS:.0f} s for every partition of {_list(names)}")
        time.sleep(_POLL_SECONDS)


def _is_ready(topic: TopicMetadata) -> bool:
    return topic.error is None and all(partition.leader >= 0 for partition in topic.partitions.values())


def _configs(admin: AdminClient, specs: Sequence[TopicSpec]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ResourceType.TOPIC, spec.name) for spec in specs]
    described = admin.describe_configs(resources, request_timeout=_TIMEOUT_SECONDS)
    return {resource.name: {name: entry.value for name, entry in future.result().items()} for resource, future in described.items()}


def _differences(spec: TopicSpec, partitions: int, chosen: int | None, config: dict[str, str]) -> list[str]:
    expected = spec.partitions or chosen or partitions
    wrong_number = [f"{spec.name}: {partitions} partitions, must be {expected}"] if partitions != expected else []
    actual = {name: config.get(name, "not set") for name in spec.config}
    wrong = [name for name, value in spec.config.items() if actual[name] != value]
    return wrong_number + [f"{spec.name}: {name} is {actual[name]}, must be {spec.config[name]}" for name in wrong]


def _list(names: Collection[str]) -> str:
    return ", ".join(sorted(names))


def _unavailable(settings: KafkaSettings, error: KafkaException) -> TopicsUnavailableError:
    if error.args[0].code() == KafkaError._INVALID_ARG:  # noqa: SLF001 - of the client, and not worth another try
        raise error
    return TopicsUnavailableError(f"Kafka at {settings.kafka_bootstrap_servers}: {error.args[0].str()}")
