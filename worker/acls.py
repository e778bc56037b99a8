"""Which rights at the brokers each job needs, and no more: the table of docs/transport.md, and what the tests run with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, assert_never

from confluent_kafka.admin import AclOperation, ResourceType

from worker.topics import REJECTED_TOPIC, WATERMARK_TOPIC, facts_topic, intents_topic

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RELAY_GROUP: Final = "sre-relay"
READER_GROUP: Final = "sre-domain-reader"


class Job(StrEnum):
    """What a principal is for; one that has several jobs has the rights of each."""

    WORKER = "worker"
    RELAY = "relay"  # and `relay rebuild`
    PUBLISHER = "publisher"  # a bridge, a poller, an importer, the sweep, a program of another
    READER = "reader"
    ADMIN = "admin"  # `sre-domain topics`
    SCALER = "scaler"  # an autoscaler that asks for the workers' lag


@dataclass(frozen=True, slots=True)
class Right:
    """Allowed operations on one resource, by its whole name. Read and Write imply Describe."""

    resource: ResourceType
    name: str
    operations: tuple[AclOperation, ...]


def rights_of(job: Job, aggregates: Sequence[str], *, consumer_group: str, slot: str) -> tuple[Right, ...]:
    """`aggregates` are those that the principal has to do with; `consumer_group` and `slot` are the settings of these names."""
    intents = [intents_topic(name) for name in aggregates]
    facts = [*(facts_topic(name) for name in aggregates), REJECTED_TOPIC]
    match job:
        case Job.WORKER:
            group = Right(ResourceType.GROUP, consumer_group, (AclOperation.READ,))
            return (*_topics(intents, AclOperation.READ), *_topics(facts, AclOperation.DESCRIBE), group)
        case Job.RELAY:
            transactions = Right(ResourceType.TRANSACTIONAL_ID, slot, (AclOperation.WRITE,))
            return (*_topics([*facts, WATERMARK_TOPIC], AclOperation.READ, AclOperation.WRITE), transactions, _named(RELAY_GROUP))
        case Job.PUBLISHER:
            return tuple(_topics(intents, AclOperation.WRITE))
        case Job.READER:
            return (*_topics(facts, AclOperation.READ), _named(READER_GROUP))
        case Job.ADMIN:
            making = AclOperation.CREATE, AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS
            return tuple(_topics([*intents, *facts, WATERMARK_TOPIC], *making))
        case Job.SCALER:
            return (*_topics(intents, AclOperation.DESCRIBE), _named(consumer_group))
        case _:
            assert_never(job)


def _named(group: str) -> Right:
    """Of a group that is asked for and not joined."""
    return Right(ResourceType.GROUP, group, (AclOperation.DESCRIBE,))


def _topics(names: Iterable[str], *operations: AclOperation) -> Iterable[Right]:
    return (Right(ResourceType.TOPIC, name, operations) for name in names)
