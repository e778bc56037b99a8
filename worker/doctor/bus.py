"""The brokers and the topics: what is there, and whether it is kept for as long as the contract and the inbox need."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import ConfigResource, ResourceType

from worker.doctor.finding import fail, not_checked, ok, warn
from worker.domain.aggregate import AGGREGATES
from worker.kafka_metadata import connected_admin
from worker.topics import DAY_MS, MIB, REJECTED_TOPIC, WATERMARK_TOPIC, facts_topic, intents_topic, topic_specs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future

    from confluent_kafka.admin import AdminClient, TopicDescription

    from worker.doctor.finding import Finding
    from worker.settings import KafkaSettings

TIMEOUT_SECONDS: Final = 10.0
_FORBIDDEN: Final = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED)
_FOR_EVER: Final = -1
_UNSET: Final = {  # Kafka's own defaults
    "cleanup.policy": "delete",
    "max.message.bytes": "1048588",
    "message.timestamp.type": "CreateTime",
    "retention.bytes": "-1",
    "retention.ms": str(7 * DAY_MS),
}
TOPICS: Final = tuple(spec.name for spec in topic_specs(tuple(AGGREGATES)))
_INTENTS: Final = frozenset(intents_topic(name) for name in AGGREGATES)
_FACTS: Final = frozenset(facts_topic(name) for name in AGGREGATES)

AWAY = fail("no answer from {servers}: {why}", "mend SRE_KAFKA_*, the network or the brokers (docs/transport.md)")
BROKERS = ok("{brokers} brokers answer at {servers}")

MISSING = fail("missing: {topics}", "run sre-domain topics; where they were lost, then sre-domain relay rebuild")
HIDDEN = not_checked("not to be seen by this login, whether they are there or not: {topics}")
NO_LEADER = fail("{topic} has partitions without a leader: {partitions}", "bring the brokers back that have them")
MANY_PARTITIONS = fail(
    "{topic} has {partitions} partitions, must have 1", "delete it, run sre-domain topics, then sre-domain relay rebuild"
)
UNEQUAL = warn(
    "{topic} has {partitions} partitions, most have {usual}",
    "leave it if that was meant: records of a key would move. New set-up: make all topics alike",
)
THERE = ok("{count} topics, {partitions} partitions each")

NOT_DESCRIBED = not_checked("this login may not describe settings of topics: ask as the one that runs sre-domain topics")
POLICY = fail("{topic}: cleanup.policy is {actual}, must be {expected}", "set it at once: {harm}")
OUTLIVES_INBOX = fail(
    "{topic} keeps intents for {kept}, their outcomes are remembered for {inbox} days",
    "set its retention.ms to at most {most}, or raise SRE_INBOX_RETENTION_DAYS",
)
SHORT_INTENTS = warn(
    "{topic} keeps intents for {kept} only", "set its retention.ms to 604800000: an outage of the workers may last that long"
)
CUT_BY_SIZE = fail("{topic}: retention.bytes is {actual}: records leave it before their time", "set its retention.bytes to -1")
FORGETS_FACTS = fail(
    "{topic} keeps facts for {kept}, must keep them for ever",
    "set its retention.ms to -1; what is gone: delete the topic, sre-domain topics, sre-domain relay rebuild",
)
SHORT_REJECTIONS = warn("{topic} keeps rejections for {kept}, the contract says 30 days", "set its retention.ms to 2592000000")
TIMESTAMPS = fail(
    "{topic}: message.timestamp.type is {actual}, must be LogAppendTime", "set it: ids of rejections and the inbox go by the broker's time"
)
SMALL_RECORDS = fail(
    "{topic}: max.message.bytes is {actual}, must be {expected} or more",
    "set it to {expected}: larger rejections would stop the relay, larger intents their producer",
)
KEPT = ok("cleanup, retention, timestamps and sizes are as they must be")

_HARM: Final = {
    "intents": "compaction drops intents of the same aggregate before they are decided",
    "facts": "compaction or deletion drops what readers that begin anew need",
    "watermark": "a relay whose watermark is deleted does not know where it was",
}


def check_kafka(settings: KafkaSettings) -> Iterator[Finding]:
    servers = settings.kafka_bootstrap_servers
    try:
        admin, _ = connected_admin(settings, TIMEOUT_SECONDS)
        brokers = len(admin.list_topics(timeout=TIMEOUT_SECONDS).brokers)
    except KafkaException as error:
        yield AWAY.of(servers=servers, why=error.args[0].str())
        return
    yield BROKERS.of(brokers=brokers, servers=servers)


def check_topics(settings: KafkaSettings) -> Iterator[Finding]:
    """A login sees the topics of its job; what it can't see is not missing."""
    admin, _ = connected_admin(settings, TIMEOUT_SECONDS)
    topics = described(admin)
    if missing := [name for name, one in topics.items() if one is None]:
        yield MISSING.of(topics=", ".join(missing))
        return
    if hidden := [name for name, one in topics.items() if isinstance(one, KafkaError)]:
        yield HIDDEN.of(topics=", ".join(hidden))
    seen = {name: one.partitions for name, one in topics.items() if one is not None and not isinstance(one, KafkaError)}
    counts = {name: len(partitions) for name, partitions in seen.items() if name != WATERMARK_TOPIC}
    if not counts:
        return
    usual = Counter(counts.values()).most_common(1)[0][0]
    leaderless = {name: [str(one.id) for one in partitions if one.leader is None] for name, partitions in seen.items()}
    faults = [
        *(NO_LEADER.of(topic=name, partitions=", ".join(numbers)) for name, numbers in leaderless.items() if numbers),
        *(MANY_PARTITIONS.of(topic=name, partitions=len(seen[name])) for name in seen.keys() & {WATERMARK_TOPIC} if len(seen[name]) != 1),
        *(UNEQUAL.of(topic=name, partitions=count, usual=usual) for name, count in counts.items() if count != usual),
    ]
    yield from faults or [THERE.of(count=len(seen), partitions=usual)]


def described(admin: AdminClient, *, with_operations: bool = False) -> dict[str, TopicDescription | KafkaError | None]:
    """Every topic of the bus as this login sees it: None where it is missing, the refusal where it is hidden. Raises KafkaException."""
    asked = admin.describe_topics(
        TopicCollection(list(TOPICS)), include_authorized_operations=with_operations, request_timeout=TIMEOUT_SECONDS
    )
    return {name: _seen(future) for name, future in asked.items()}


def _seen(future: Future[TopicDescription]) -> TopicDescription | KafkaError | None:
    try:
        return future.result()
    except KafkaException as error:
        fault: KafkaError = error.args[0]
        if fault.code() in _FORBIDDEN:
            return fault
        if fault.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return None
        raise


def check_topic_settings(settings: KafkaSettings, inbox_retention_days: int) -> Iterator[Finding]:
    admin, _ = connected_admin(settings, TIMEOUT_SECONDS)
    asked = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name) for name in TOPICS], request_timeout=TIMEOUT_SECONDS)
    try:
        told = {resource.name: {name: entry.value for name, entry in future.result().items()} for resource, future in asked.items()}
    except KafkaException as error:
        if error.args[0].code() not in _FORBIDDEN:
            raise
        yield NOT_DESCRIBED.of()
        return
    faults = [finding for name in TOPICS for finding in faults_of(name, _UNSET | told[name], inbox_retention_days)]
    yield from faults or [KEPT.of()]


def faults_of(topic: str, config: Mapping[str, str], inbox_retention_days: int) -> Iterator[Finding]:
    """`config` is as the brokers describe it, with their own defaults where the topic has none; Tansu leaves those out."""
    kind = "intents" if topic in _INTENTS else "watermark" if topic == WATERMARK_TOPIC else "facts"
    policy = "compact" if kind == "watermark" else "delete"
    if config["cleanup.policy"] != policy:
        yield POLICY.of(topic=topic, actual=config["cleanup.policy"], expected=policy, harm=_HARM[kind])
    if kind != "watermark" and int(config["retention.bytes"]) != _FOR_EVER:
        yield CUT_BY_SIZE.of(topic=topic, actual=config["retention.bytes"])
    kept_ms = int(config["retention.ms"])
    kept = "ever" if kept_ms == _FOR_EVER else f"{kept_ms / DAY_MS:.3g} days"
    if kind == "intents":
        yield from _faults_of_intents(topic, config, kept_ms, kept, inbox_retention_days)
    elif topic in _FACTS and kept_ms != _FOR_EVER:
        yield FORGETS_FACTS.of(topic=topic, kept=kept)
    elif topic == REJECTED_TOPIC:
        if kept_ms != _FOR_EVER and kept_ms < 30 * DAY_MS:
            yield SHORT_REJECTIONS.of(topic=topic, kept=kept)
        yield from _too_small(topic, config, 2 * MIB)


def _faults_of_intents(topic: str, config: Mapping[str, str], kept_ms: int, kept: str, inbox_days: int) -> Iterator[Finding]:
    if kept_ms == _FOR_EVER or kept_ms > inbox_days * DAY_MS:
        yield OUTLIVES_INBOX.of(topic=topic, kept=kept, inbox=inbox_days, most=inbox_days * DAY_MS)
    elif kept_ms < 7 * DAY_MS:
        yield SHORT_INTENTS.of(topic=topic, kept=kept)
    if config["message.timestamp.type"] != "LogAppendTime":
        yield TIMESTAMPS.of(topic=topic, actual=config["message.timestamp.type"])
    yield from _too_small(topic, config, MIB)


def _too_small(topic: str, config: Mapping[str, str], expected: int) -> Iterator[Finding]:
    if int(config["max.message.bytes"]) < expected:
        yield SMALL_RECORDS.of(topic=topic, actual=config["max.message.bytes"], expected=expected)
