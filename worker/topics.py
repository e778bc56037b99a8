"""The topics of the bus (docs/contract.md): names and the settings they must have."""

from collections.abc import Mapping
from dataclasses import dataclass, field

PARTITIONS = 12
DAY_MS = 86_400_000
MIB = 1_048_576

REJECTED_TOPIC = "sre.intents.rejected.v1"
WATERMARK_TOPIC = "sre.relay.watermark.v1"


def intents_topic(aggregate: str) -> str:
    return f"sre.{aggregate}.intents.v1"


def facts_topic(aggregate: str) -> str:
    return f"sre.{aggregate}.facts.v1"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it must be; `partitions` None leaves the number to whoever makes it, and it never changes afterwards."""

    name: str
    config: Mapping[str, str] = field(default_factory=dict)
    partitions: int | None = None


def topic_specs(aggregates: tuple[str, ...]) -> tuple[TopicSpec, ...]:
    """Every topic that the worker and the relay need for these aggregates."""
    intents = {
        "cleanup.policy": "delete",
        "retention.ms": str(7 * DAY_MS),
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(MIB),
    }
    facts = {"cleanup.policy": "delete", "retention.ms": "-1"}
    rejected = {"cleanup.policy": "delete", "retention.ms": str(30 * DAY_MS), "max.message.bytes": str(2 * MIB)}
    # Small segments, since the one that is written to is not compacted: a relay reads the topic at its start.
    watermark = {"cleanup.policy": "compact", "segment.bytes": str(16 * MIB), "min.cleanable.dirty.ratio": "0.1"}
    return (
        *(TopicSpec(intents_topic(name), intents) for name in aggregates),
        *(TopicSpec(facts_topic(name), facts) for name in aggregates),
        TopicSpec(REJECTED_TOPIC, rejected),
        TopicSpec(WATERMARK_TOPIC, watermark, partitions=1),
    )
