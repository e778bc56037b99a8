"""The doctor on a real Apache Kafka: each line that it can say of topics is seen on topics that were broken for it."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer, Uuid
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType, TopicDescription

from tests.support.system import wait_until
from worker.doctor import bus, clocks, groups, rights
from worker.domain.aggregate import AGGREGATES
from worker.topics import DAY_MS, MIB, REJECTED_TOPIC, WATERMARK_TOPIC, facts_topic, intents_topic, topic_specs

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.doctor.conftest import Ask
    from worker.doctor.finding import Finding

INTENTS, FACTS = intents_topic("slo"), facts_topic("slo")
HARM = bus._HARM
BREAKS: list[tuple[str, str, str, Finding]] = [
    (INTENTS, "cleanup.policy", "compact", bus.POLICY.of(topic=INTENTS, actual="compact", expected="delete", harm=HARM["intents"])),
    (FACTS, "cleanup.policy", "compact", bus.POLICY.of(topic=FACTS, actual="compact", expected="delete", harm=HARM["facts"])),
    (
        WATERMARK_TOPIC,
        "cleanup.policy",
        "delete",
        bus.POLICY.of(topic=WATERMARK_TOPIC, actual="delete", expected="compact", harm=HARM["watermark"]),
    ),
    (INTENTS, "retention.ms", str(31 * DAY_MS), bus.OUTLIVES_INBOX.of(topic=INTENTS, kept="31 days", inbox=30, most=30 * DAY_MS)),
    (INTENTS, "retention.ms", "-1", bus.OUTLIVES_INBOX.of(topic=INTENTS, kept="ever", inbox=30, most=30 * DAY_MS)),
    (INTENTS, "retention.ms", str(DAY_MS), bus.SHORT_INTENTS.of(topic=INTENTS, kept="1 days")),
    (INTENTS, "retention.bytes", "1000000", bus.CUT_BY_SIZE.of(topic=INTENTS, actual="1000000")),
    (INTENTS, "message.timestamp.type", "CreateTime", bus.TIMESTAMPS.of(topic=INTENTS, actual="CreateTime")),
    (INTENTS, "max.message.bytes", "1000", bus.SMALL_RECORDS.of(topic=INTENTS, actual="1000", expected=MIB)),
    (FACTS, "retention.ms", str(7 * DAY_MS), bus.FORGETS_FACTS.of(topic=FACTS, kept="7 days")),
    (FACTS, "retention.bytes", "1000000", bus.CUT_BY_SIZE.of(topic=FACTS, actual="1000000")),
    (REJECTED_TOPIC, "retention.ms", str(DAY_MS), bus.SHORT_REJECTIONS.of(topic=REJECTED_TOPIC, kept="1 days")),
    (REJECTED_TOPIC, "max.message.bytes", str(MIB), bus.SMALL_RECORDS.of(topic=REJECTED_TOPIC, actual=str(MIB), expected=2 * MIB)),
]


@pytest.fixture
def admin(kafka: str, setting: Callable[[str, str | None], None]) -> AdminClient:
    setting("SRE_KAFKA_BOOTSTRAP_SERVERS", kafka)
    return AdminClient({"bootstrap.servers": kafka})


def alter(admin: AdminClient, topic: str, name: str, value: str | None) -> None:
    """None: as the brokers have it by themselves."""
    operation = AlterConfigOpType.SET if value is not None else AlterConfigOpType.DELETE
    entry = ConfigEntry(name, value, incremental_operation=operation)
    for future in admin.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])]).values():
        future.result(15)


def config_of(admin: AdminClient, topic: str) -> dict[str, str]:
    (future,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
    return {name: entry.value for name, entry in future.result(15).items()}


def test_brokers_out_of_reach_are_named(ask: Ask, setting: Callable[[str, str | None], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus, "TIMEOUT_SECONDS", 0.5)
    setting("SRE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    (found,) = ask("kafka")
    assert found.do == bus.AWAY.do
    assert found.what.startswith("no answer from 127.0.0.1:1: ")


def test_topics_in_order_are_called_so_and_each_setting_that_is_not_is_named(
    ask: Ask, topics: tuple[str, ...], admin: AdminClient, kafka: str
) -> None:

    def settings_say(finding: Finding) -> bool:
        """A broker hears of a change a moment after it was made."""
        return ask("settings of topics") == [finding]

    assert ask("kafka") == [bus.BROKERS.of(brokers=1, servers=kafka)]
    assert ask("topics") == [bus.THERE.of(count=len(topics), partitions=12)]
    assert ask("settings of topics") == [bus.KEPT.of()]
    wait_until(lambda: ask("rights at the brokers") == [rights.NO_ACLS.of()], 60, lambda: repr(ask("rights at the brokers")))
    for topic, name, value, expected in BREAKS:
        before = config_of(admin, topic)[name]
        alter(admin, topic, name, value)
        wait_until(lambda: settings_say(expected), 30, lambda: f"{expected}: {ask('settings of topics')}")  # noqa: B023
        alter(admin, topic, name, before)
        wait_until(lambda: settings_say(bus.KEPT.of()), 30, lambda: repr(ask("settings of topics")))


@pytest.mark.usefixtures("topics", "admin")
def test_intents_must_not_outlive_what_the_inbox_remembers_of_them(ask: Ask, setting: Callable[[str, str | None], None]) -> None:
    setting("SRE_INBOX_RETENTION_DAYS", "5")
    assert bus.OUTLIVES_INBOX.of(topic=INTENTS, kept="7 days", inbox=5, most=5 * DAY_MS) in ask("settings of topics")


@pytest.mark.usefixtures("topics", "admin")
def test_the_newest_intent_tells_whether_this_host_is_behind(ask: Ask, kafka: str) -> None:
    assert ask("clock and Kafka") == [clocks.NO_RECORDS.of()]
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(INTENTS, value=b"garbage", partition=3)
    assert producer.flush(15) == 0
    assert ask("clock and Kafka") == [clocks.WITH_KAFKA.of()]
    for seconds, line in ((30, clocks.OFF), (200, clocks.FAR_OFF)):
        (found,) = ask("clock and Kafka", lambda: datetime.now(UTC) - timedelta(seconds=seconds))  # noqa: B023 - called at once
        assert (found.status, found.do) == (line.status, line.do)
        assert found.what.endswith(" s behind that of the newest intent")


@pytest.mark.usefixtures("topics")
def test_topics_that_are_missing_or_have_another_number_of_partitions_are_named(ask: Ask, admin: AdminClient) -> None:
    """The brokers hear of topics that go and come, and of their leaders, a moment later."""

    def found() -> set[Finding]:
        return set(ask("topics"))

    gone = (FACTS, WATERMARK_TOPIC)
    for future in admin.delete_topics(list(gone)).values():
        future.result(15)
    wait_until(lambda: found() == {bus.MISSING.of(topics=", ".join(gone))}, 30, lambda: repr(found()))
    for future in admin.create_topics([NewTopic(FACTS, 6), NewTopic(WATERMARK_TOPIC, 3)], operation_timeout=15).values():
        future.result(15)
    expected = {bus.UNEQUAL.of(topic=FACTS, partitions=6, usual=12), bus.MANY_PARTITIONS.of(topic=WATERMARK_TOPIC, partitions=3)}
    wait_until(lambda: found() == expected, 30, lambda: repr(found()))


def test_partitions_without_a_leader_are_named(
    ask: Ask, setting: Callable[[str, str | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that is gone takes its partitions with it; with one broker there would be nobody left to ask."""
    setting("SRE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    seen: dict[str, Any] = {}
    for spec in topic_specs(tuple(AGGREGATES)):
        leaders = [None if (spec.name, number) in {(FACTS, 2), (FACTS, 5)} else 1 for number in range(spec.partitions or 12)]
        seen[spec.name] = SimpleNamespace(partitions=[SimpleNamespace(id=number, leader=leader) for number, leader in enumerate(leaders)])
    monkeypatch.setattr(bus, "connected_admin", lambda *_: (None, None))
    monkeypatch.setattr(bus, "described", lambda _: seen)
    assert ask("topics") == [bus.NO_LEADER.of(topic=FACTS, partitions="2, 5")]


def test_brokers_that_tell_nothing_of_rights_are_taken_at_their_word(
    ask: Ask, setting: Callable[[str, str | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kafka before 2.3, and some that only speak its protocol."""
    setting("SRE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    silent = TopicDescription(FACTS, Uuid(0, 1), False, [], None)  # noqa: FBT003 - is_internal
    monkeypatch.setattr(rights, "connected_admin", lambda *_: (None, None))
    monkeypatch.setattr(rights, "described", lambda *_, **__: {FACTS: silent})
    assert ask("rights at the brokers") == [rights.NOT_TOLD.of()]


@pytest.mark.usefixtures("topics", "admin")
def test_brokers_that_are_slow_to_speak_of_groups_are_no_failure(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "COORDINATOR_SECONDS", (0.001,))
    assert ask("rights at the brokers") == [rights.GROUPS_SILENT.of()]


def abort(*_: object) -> None:
    os.abort()


@pytest.mark.usefixtures("topics", "admin")
def test_a_client_that_dies_of_its_question_does_not_take_the_doctor_with_it(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "_asked", abort)
    assert ask("rights at the brokers") == [rights.GROUPS_SILENT.of()]
