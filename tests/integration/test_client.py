"""The bus through worker/client.py, on a real Kafka."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import worker.intents
from tests.support.facts import RECOVERED, transaction, write_fact
from tests.support.records import CODEC, window
from worker import publishing
from worker.client import (
    BusError,
    FactGapError,
    FactReader,
    FactUnreadableError,
    Intent,
    IntentInvalidError,
    IntentPublisher,
    ReceivedFact,
    UnknownFact,
    intent_id_of,
    publish,
    read_committed,
    to_outgoing,
)
from worker.evidence import to_record
from worker.partitioner import partition_of
from worker.settings import KafkaSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from confluent_kafka import Message

ROOT = Path(__file__).parents[2]
INTENTS = "sre.slo.intents.v1"
FACTS = "sre.slo.facts.v1"
SECONDS = 30


@pytest.fixture
def settings(kafka: str, topics: tuple[str, ...]) -> KafkaSettings:  # noqa: ARG001 - made, then used by name
    return KafkaSettings(kafka_bootstrap_servers=kafka)


@pytest.fixture
def publisher(settings: KafkaSettings) -> Iterator[IntentPublisher]:
    with IntentPublisher(settings, CODEC) as made:
        yield made


def intents(count: int, slo: str = "checkout") -> list[Intent]:
    return [Intent("RecordSLIWindowRequested", "acme", slo, window(minute % 600), "/tests", f"{slo}/{minute}") for minute in range(count)]


def sent(settings: KafkaSettings) -> list[Message]:
    return list(read_committed(settings, [INTENTS], from_beginning=True))


def ids(messages: Iterable[Message]) -> dict[str, list[str]]:
    """Intent ids by SLO, in the order in which they lie."""
    found: dict[str, list[str]] = defaultdict(list)
    for message in messages:
        record = to_record(message)
        found[(record.key or b"").decode()].append((dict(record.headers)["ce_id"] or b"").decode())
    return found


def test_publishing_hands_back_where_each_intent_lies(publisher: IntentPublisher, settings: KafkaSettings) -> None:
    delivered = publisher.publish(intents(50))
    messages = sent(settings)
    assert [(place.topic, place.partition, place.offset) for place in delivered] == [
        (message.topic(), message.partition(), message.offset()) for message in messages
    ]
    assert ids(messages) == {"checkout": [intent.intent_id for intent in intents(50)]}
    assert {place.partition for place in delivered} == {partition_of(b"checkout", 12)}


def test_four_threads_share_a_publisher_and_each_keeps_its_order(publisher: IntentPublisher, settings: KafkaSettings) -> None:
    def send(slo: str) -> None:
        futures = [publisher.send(intent) for intent in intents(500, slo)]
        assert not wait(futures, SECONDS).not_done
        assert all(future.exception() is None for future in futures)

    slos = [f"slo-{number}" for number in range(4)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(send, slos))
    assert ids(sent(settings)) == {slo: [intent.intent_id for intent in intents(500, slo)] for slo in slos}


def test_several_coroutines_publish_at_once_while_the_loop_runs_on(publisher: IntentPublisher, settings: KafkaSettings) -> None:
    slos = [f"slo-{number}" for number in range(4)]

    async def publish_all() -> int:
        everything = asyncio.gather(*(publisher.publish_async(intents(250, slo)) for slo in slos))
        ticks = 0
        while not everything.done():
            await asyncio.sleep(0)
            ticks += 1
        assert [len(delivered) for delivered in await everything] == [250] * 4
        return ticks

    assert asyncio.run(publish_all()) > 1
    assert ids(sent(settings)) == {slo: [intent.intent_id for intent in intents(250, slo)] for slo in slos}


def test_a_future_of_send_can_be_awaited(publisher: IntentPublisher) -> None:
    async def send() -> int:
        delivered = await asyncio.wrap_future(publisher.send(intents(1)[0]))
        return delivered.offset

    assert asyncio.run(send()) == 0


def test_the_program_in_the_documentation_publishes(kafka: str, settings: KafkaSettings) -> None:
    page = (ROOT / "docs" / "projection.md").read_text(encoding="utf-8")
    (program,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "IntentPublisher" in block)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SRE_KAFKA_BOOTSTRAP_SERVERS": kafka}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=SECONDS)
    assert ids(sent(settings)) == {"checkout-availability": [intent_id_of("/teams/checkout", "slo/checkout-availability")] * 2}


def test_a_full_queue_waits_and_loses_nothing(settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "_MAX_UNCONFIRMED", 3)
    with IntentPublisher(settings, CODEC) as publisher:
        assert len(publisher.publish(intents(200))) == 200
    assert ids(sent(settings)) == {"checkout": [intent.intent_id for intent in intents(200)]}


def test_leaving_the_publisher_confirms_what_was_sent(settings: KafkaSettings) -> None:
    with IntentPublisher(settings, CODEC) as publisher:
        futures = [publisher.send(intent) for intent in intents(300)]
    assert [future.result(timeout=0).offset for future in futures] == list(range(300))


def test_one_invalid_intent_keeps_all_from_being_sent(publisher: IntentPublisher, settings: KafkaSettings) -> None:
    wrong = Intent("RecordSLIWindowRequested", "acme", "checkout", window(3, good=101), "/tests")
    with pytest.raises(IntentInvalidError):
        publisher.publish([*intents(3), wrong])
    with pytest.raises(IntentInvalidError):
        asyncio.run(publisher.publish_async([*intents(3), wrong]))
    assert sent(settings) == []


def test_a_topic_that_is_not_there_is_named(settings: KafkaSettings, publisher: IntentPublisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.intents, "intents_topic", lambda aggregate: f"sre.no-{aggregate}.intents.v1")
    with pytest.raises(BusError, match=r"sre\.no-slo\.intents\.v1: .*[Uu]nknown topic"):
        publisher.publish(intents(1))
    with pytest.raises(BusError, match="run `sre-domain topics`"):
        publish(settings, [to_outgoing(intents(1)[0], CODEC)])


@dataclass
class Store:
    """A projection's database: what was applied, versions and offsets, each list of facts in one step."""

    applied: list[ReceivedFact] = field(default_factory=list)
    versions: dict[tuple[str, str, str], int] = field(default_factory=dict)
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)

    def next_offset(self, topic: str, partition: int) -> int | None:
        return self.offsets.get((topic, partition))

    def last_version(self, tenant_id: str, aggregate: str, aggregate_id: str) -> int:
        return self.versions.get((tenant_id, aggregate, aggregate_id), 0)

    def apply(self, facts: list[ReceivedFact]) -> None:
        for fact in facts:
            self.applied.append(fact)
            self.versions[fact.tenant_id, fact.aggregate, fact.aggregate_id] = fact.version
            self.offsets[fact.topic, fact.partition] = fact.offset + 1

    @property
    def seen(self) -> list[int]:
        return [fact.version for fact in self.applied]


def catch_up(settings: KafkaSettings, store: Store, partitions: list[int] | None = None) -> None:
    for facts in FactReader(settings, ["slo"], store, partitions=partitions, codec=CODEC).catch_up():
        store.apply(facts)


def write(kafka: str, *versions: int, slo: str = "checkout") -> None:
    with transaction(kafka) as producer:
        for version in versions:
            write_fact(producer, version, aggregate_id=slo)


def test_facts_come_typed_once_and_in_order(kafka: str, settings: KafkaSettings) -> None:
    write(kafka, 1, 2, 1, 2, 3, 2, 4)
    store = Store()
    catch_up(settings, store)
    assert store.seen == [1, 2, 3, 4]
    assert {fact.fact for fact in store.applied} == {RECOVERED}
    assert store.offsets == {(FACTS, partition_of(b"acme/checkout", 12)): 7}


def test_what_was_aborted_is_not_seen(kafka: str, settings: KafkaSettings) -> None:
    write(kafka, 1)
    with transaction(kafka, abort=True) as producer:
        write_fact(producer, 2)
        write_fact(producer, 9)
    write(kafka, 2)
    store = Store()
    catch_up(settings, store)
    assert store.seen == [1, 2]


def test_what_is_not_committed_yet_does_not_hold_up_catching_up(kafka: str, settings: KafkaSettings) -> None:
    write(kafka, 1)
    store = Store()
    with transaction(kafka) as producer:
        write_fact(producer, 2)
        producer.flush()
        catch_up(settings, store)
        assert store.seen == [1]
    catch_up(settings, store)
    assert store.seen == [1, 2]


def test_a_fact_that_came_later_is_passed_over_with_its_version(kafka: str, settings: KafkaSettings) -> None:
    with transaction(kafka) as producer:
        write_fact(producer, 1)
        write_fact(producer, 2, name="SLOFactOfTomorrow", value=b"\xc3\x01" + bytes(8))
        write_fact(producer, 3)
    store = Store()
    catch_up(settings, store)
    assert [fact.fact for fact in store.applied] == [RECOVERED, UnknownFact("SLOFactOfTomorrow"), RECOVERED]
    write(kafka, 4)
    catch_up(settings, store)
    assert store.seen == [1, 2, 3, 4]


def test_a_gap_ends_the_reading_after_what_precedes_it(kafka: str, settings: KafkaSettings) -> None:
    write(kafka, 1, 2, 4, 5)
    store = Store()
    for _ in range(2):  # and a second start does not leap over it
        with pytest.raises(FactGapError, match="version 4 of slo acme/checkout follows 2") as caught:
            catch_up(settings, store)
        assert (caught.value.last_version, caught.value.fact.version) == (2, 4)
        assert store.seen == [1, 2]


def test_a_gap_of_stored_positions_closes_by_reading_from_an_earlier_offset(kafka: str, settings: KafkaSettings) -> None:
    write(kafka, 1, 2, 3)
    place = (FACTS, partition_of(b"acme/checkout", 12))
    store = Store(offsets={place: 2})  # a database whose offset is ahead of its effects
    with pytest.raises(FactGapError):
        catch_up(settings, store)
    del store.offsets[place]
    catch_up(settings, store)
    assert store.seen == [1, 2, 3]


def test_the_first_fact_seen_of_an_aggregate_is_its_first(kafka: str, settings: KafkaSettings) -> None:
    write(kafka, 2)
    with pytest.raises(FactGapError, match="follows 0"):
        catch_up(settings, Store())


def test_what_is_no_fact_ends_the_reading_after_what_precedes_it(kafka: str, settings: KafkaSettings) -> None:
    with transaction(kafka) as producer:
        write_fact(producer, 1)
        write_fact(producer, 2, value=b"no Avro")
    store = Store()
    with pytest.raises(FactUnreadableError, match="offset 1 can't be read: is not framed"):
        catch_up(settings, store)
    assert store.seen == [1]


def test_a_reader_goes_on_where_the_store_is(kafka: str, settings: KafkaSettings) -> None:
    store = Store()
    for versions in ((1, 2), (3,), (), (2, 3, 4)):
        write(kafka, *versions)
        catch_up(settings, store)
    assert store.seen == [1, 2, 3, 4]


def test_a_list_whose_effect_failed_comes_again(kafka: str, settings: KafkaSettings) -> None:
    write(kafka, 1, 2)
    store = Store()
    handed = [fact.version for facts in FactReader(settings, ["slo"], store, codec=CODEC).catch_up() for fact in facts]
    catch_up(settings, store)
    assert handed == store.seen == [1, 2]


def test_a_stored_offset_that_is_not_there_is_an_error(kafka: str, settings: KafkaSettings) -> None:
    write(kafka, 1)
    store = Store(offsets={(FACTS, partition_of(b"acme/checkout", 12)): 1000})
    with pytest.raises(BusError, match=r"[Oo]ffset"):
        catch_up(settings, store)


def test_readers_that_share_the_partitions_share_the_facts(kafka: str, settings: KafkaSettings) -> None:
    slos = [f"slo-{number}" for number in range(24)]
    for slo in slos:
        write(kafka, 1, 2, slo=slo)
    stores = [Store() for _ in range(3)]
    for number, store in enumerate(stores):
        catch_up(settings, store, partitions=list(range(number, 12, 3)))
    assert sorted(fact.aggregate_id for store in stores for fact in store.applied) == sorted(slos * 2)
    assert all(store.applied for store in stores)


def test_following_goes_on_until_it_is_stopped(kafka: str, settings: KafkaSettings) -> None:
    store = Store()
    reader = FactReader(settings, ["slo"], store, codec=CODEC)

    def follow() -> None:
        for facts in reader.follow():
            store.apply(facts)
            if store.seen == [1, 2]:
                write(kafka, 3)
            if store.seen == [1, 2, 3]:
                reader.stop()

    write(kafka, 1, 2)
    with ThreadPoolExecutor(1) as threads:
        threads.submit(follow).result(SECONDS)
    assert store.seen == [1, 2, 3]


def test_an_event_loop_follows_in_a_thread_and_stops_it(kafka: str, settings: KafkaSettings) -> None:
    store = Store()
    reader = FactReader(settings, ["slo"], store, codec=CODEC)

    async def follow() -> None:
        first = asyncio.Event()
        loop = asyncio.get_running_loop()

        def read() -> None:
            for facts in reader.follow():
                store.apply(facts)
                loop.call_soon_threadsafe(first.set)

        reading = asyncio.create_task(asyncio.to_thread(read))
        await asyncio.wait_for(first.wait(), SECONDS)
        reader.stop()
        await asyncio.wait_for(reading, SECONDS)

    write(kafka, 1)
    asyncio.run(follow())
    assert store.seen == [1]


def test_a_fact_topic_that_is_not_there_is_named(settings: KafkaSettings) -> None:
    with pytest.raises(BusError, match="run `sre-domain topics`"):
        list(FactReader(settings, ["no-slo"], Store(), codec=CODEC).catch_up())
