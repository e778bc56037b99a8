"""Making, comparing and counting topics on a real Kafka; each test has topics of its own names."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType
from pydantic import SecretStr
from typer.testing import CliRunner

from worker import topic_admin
from worker.cli.main import app
from worker.kafka_config import librdkafka_config
from worker.settings import Settings
from worker.topic_admin import TopicReport, TopicsUnavailableError, make_topics, partition_counts
from worker.topics import TopicSpec, topic_specs

if TYPE_CHECKING:
    from collections.abc import Sequence


@pytest.fixture
def settings(kafka: str) -> Settings:
    return Settings(kafka_bootstrap_servers=kafka, database_url=SecretStr("postgresql://"))


@pytest.fixture
def admin(settings: Settings) -> AdminClient:
    return AdminClient(librdkafka_config(settings))


def make(admin: AdminClient, *topics: NewTopic) -> None:
    for future in admin.create_topics(list(topics)).values():
        future.result()


def specs() -> Sequence[TopicSpec]:
    return topic_specs((f"a{uuid4().hex}",))[:2]


def test_missing_topics_are_made_as_they_must_be(settings: Settings, admin: AdminClient) -> None:
    wanted = (*specs(), TopicSpec(f"a{uuid4().hex}", {"cleanup.policy": "compact"}, partitions=1))
    assert make_topics(settings, wanted) == TopicReport(tuple(spec.name for spec in wanted), ())
    assert partition_counts(settings, [spec.name for spec in wanted]) == {spec.name: spec.partitions or 12 for spec in wanted}
    resources = [ConfigResource(ResourceType.TOPIC, spec.name) for spec in wanted]
    actual = {resource.name: future.result() for resource, future in admin.describe_configs(resources).items()}
    assert {spec.name: {name: actual[spec.name][name].value for name in spec.config} for spec in wanted} == {
        spec.name: dict(spec.config) for spec in wanted
    }


def test_making_them_again_changes_nothing_and_finds_no_difference(settings: Settings) -> None:
    wanted = specs()
    make_topics(settings, wanted, 3)
    assert make_topics(settings, wanted) == TopicReport((), ())
    assert make_topics(settings, wanted, 3) == TopicReport((), ())


def test_each_setting_that_differs_is_named_and_left_as_it_is(settings: Settings, admin: AdminClient) -> None:
    intents, watermark = specs()[0], TopicSpec(f"a{uuid4().hex}", {"cleanup.policy": "compact"}, partitions=1)
    config = {"retention.ms": "1000", "max.message.bytes": "2000", "cleanup.policy": "compact"}
    make(admin, NewTopic(intents.name, 2, config=config), NewTopic(watermark.name, 2, config={"cleanup.policy": "compact"}))
    expected = (
        f"{intents.name}: cleanup.policy is compact, must be delete",
        f"{intents.name}: retention.ms is 1000, must be 604800000",
        f"{intents.name}: message.timestamp.type is CreateTime, must be LogAppendTime",
        f"{intents.name}: max.message.bytes is 2000, must be 1048576",
        f"{watermark.name}: 2 partitions, must be 1",
    )
    assert make_topics(settings, [intents, watermark]) == TopicReport((), expected)
    assert make_topics(settings, [intents, watermark]) == TopicReport((), expected)


def test_another_number_of_partitions_is_a_difference_only_where_one_is_asked_for(settings: Settings) -> None:
    wanted = specs()[:1]
    make_topics(settings, wanted, 5)
    assert make_topics(settings, wanted).differences == ()
    assert make_topics(settings, wanted, 7).differences == (f"{wanted[0].name}: 5 partitions, must be 7",)


def test_two_at_once_make_each_topic_once(settings: Settings) -> None:
    wanted = specs()
    with ThreadPoolExecutor() as pool:
        reports = [future.result() for future in [pool.submit(make_topics, settings, wanted) for _ in range(2)]]
    assert sorted(name for report in reports for name in report.created) == sorted(spec.name for spec in wanted)
    assert [report.differences for report in reports] == [(), ()]


def test_a_missing_topic_is_named_and_not_made_by_asking(settings: Settings) -> None:
    wanted = specs()
    make_topics(settings, wanted[:1])
    for _ in range(2):
        with pytest.raises(TopicsUnavailableError, match=f"^topics are missing, or this login .* makes: {wanted[1].name}$"):
            partition_counts(settings, [spec.name for spec in wanted])


def test_a_broker_out_of_reach_is_one_line_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_admin, "_TIMEOUT_SECONDS", 1.0)
    settings = Settings(kafka_bootstrap_servers="127.0.0.1:1", database_url=SecretStr("postgresql://"))
    for ask in (lambda: partition_counts(settings, ["any"]), lambda: make_topics(settings, specs())):
        with pytest.raises(TopicsUnavailableError, match=r"^Kafka at 127\.0\.0\.1:1: [^\n]+$"):
            ask()


def test_the_command_names_what_it_made_and_ends_with_1_where_a_topic_differs(
    kafka: str, topics: tuple[str, ...], admin: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRE_DATABASE_URL", "postgresql://127.0.0.1:1/nothing")
    monkeypatch.setenv("SRE_KAFKA_BOOTSTRAP_SERVERS", kafka)
    same = CliRunner().invoke(app, ["topics"])
    assert (same.exit_code, same.stdout) == (0, "the topics are as they must be\n")
    other = CliRunner().invoke(app, ["topics", "--partitions", "13"])
    assert other.exit_code == 1
    assert [line.split(": ")[1] for line in other.stderr.splitlines()] == ["12 partitions, must be 13"] * (len(topics) - 1)
    for future in admin.delete_topics([topics[0]]).values():
        future.result()
    assert CliRunner().invoke(app, ["topics"]).stdout == f"made {topics[0]}\n"
