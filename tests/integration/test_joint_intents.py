"""Intents over several aggregates against a real PostgreSQL: all or nothing, and in one order, also when pipelines meet."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import errors

from tests.support.incidents import acknowledge, add_entry, correlate, create, merge, numbered, resolve, transition
from tests.support.pipelines import assert_sound, facts, intake, outcomes, process, process_one, query, stored
from tests.support.records import NOW, Topic
from tests.support.roles import as_writer
from worker.domain.aggregate import INCIDENT
from worker.domain.alert import IngestAlert, alert_id_of
from worker.domain.alerts_correlated import AlertsCorrelatedToIncident
from worker.domain.incident_messages import IncidentClosed, IncidentsMerged, IncidentTimelineEntryAdded
from worker.pipeline import process_batch
from worker.postgres.connection import UnitOpener
from worker.postgres.storages import STORAGES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from worker.envelope import Record

MINUTE = timedelta(minutes=1)


def incidents() -> Topic:
    return Topic("sre.incident.intents.v1")


def alerts() -> Topic:
    return Topic("sre.alert.intents.v1")


def ingest(name: str, status: str = "firing", minute: int = 0) -> IngestAlert:
    """An alert that starts, or has ended, `minute` minutes into the hour before NOW."""
    start = NOW - 60 * MINUTE
    moment = start + minute * MINUTE
    return IngestAlert(
        source="custom",
        fingerprint=name,
        name=name,
        severity="high",
        status=status,
        labels={"service": "checkout"},
        starts_at=moment if status == "firing" else start,
        ends_at=moment if status == "resolved" else None,
    )


def alert_id(name: str) -> str:
    return alert_id_of("acme", "custom", name)


def ingested(topic: Topic, *names: str) -> list[Record]:
    return [topic.append(ingest(name), alert_id(name), time=NOW - 60 * MINUTE) for name in names]


@asynccontextmanager
async def row_locked(database: str, table: str, column: str, aggregate_id: str, waiting: int) -> AsyncIterator[None]:
    """Hold back whoever wants this row until `waiting` sessions do, so that they truly meet."""
    async with await psycopg.AsyncConnection.connect(database) as holder:
        await holder.execute(f"SELECT FROM {table} WHERE {column} = %s FOR UPDATE".encode(), [aggregate_id])
        yield
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as watcher:
            statement = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            async with asyncio.timeout(20):
                while (await (await watcher.execute(statement)).fetchall()) < [(waiting,)]:  # noqa: ASYNC110 - PostgreSQL tells nobody
                    await asyncio.sleep(0.005)


def deadlocks(database: str) -> int:
    return int(query(database, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")[0][0])


def test_a_correlation_is_one_fact_on_the_incident_and_one_on_each_alert(database: str) -> None:
    topic = incidents()
    names = ("a", "b", "c")
    ids = sorted(map(alert_id, names))
    process(
        database,
        ingested(alerts(), *names),
        [topic.append(create(), numbered(1)), topic.append(correlate(*reversed(ids)), numbered(1), intent_id="join")],
    )
    assert outcomes(database)["join"] == "facts"
    assert_sound(database)
    states = stored(database)
    assert states["incident", "acme", numbered(1)].alert_count == 3
    assert [(states["alert", "acme", one].version, states["alert", "acme", one].incident_id) for one in ids] == [(2, numbered(1))] * 3
    order = query(database, "SELECT aggregatetype, aggregateid FROM outbox WHERE causation_id = 'join'")
    assert order == [("incident", numbered(1)), *(("alert", one) for one in ids)]


def test_a_merge_closes_its_sources_also_those_created_in_the_same_batch(database: str) -> None:
    topic = incidents()
    process(database, [topic.append(create("c", "a"), numbered(3))])
    process(
        database,
        [
            topic.append(create("a", "b"), numbered(1)),
            topic.append(create("d"), numbered(2)),
            topic.append(merge(numbered(3), numbered(2)), numbered(1), intent_id="merge"),
            topic.append(merge(numbered(2)), numbered(1), intent_id="again"),
            topic.append(acknowledge(), numbered(3), intent_id="late"),
            topic.append(add_entry(NOW), numbered(3), intent_id="entry"),
        ],
    )
    assert {name: outcomes(database)[name] for name in ("merge", "again", "late", "entry")} == {
        "merge": "facts",
        "again": "INCIDENT_CLOSED",
        "late": "INCIDENT_CLOSED",
        "entry": "facts",
    }
    assert_sound(database)
    states = stored(database)
    assert states["incident", "acme", numbered(1)].affected_resources == ("a", "b", "c", "d")
    assert [states["incident", "acme", numbered(number)].merged_into for number in (1, 2, 3)] == [None, numbered(1), numbered(1)]


def test_repeating_a_joint_intent_changes_nothing(database: str) -> None:
    topic = incidents()
    join = topic.append(correlate(alert_id("a")), numbered(1), intent_id="join")
    process(database, ingested(alerts(), "a"), [topic.append(create(), numbered(1))])
    process(database, [join])
    before = (stored(database), facts(database), outcomes(database))
    process(database, [join], [topic.append(correlate(alert_id("a")), numbered(1), intent_id="join")])
    assert (stored(database), facts(database), outcomes(database)) == before


def test_another_tenants_alerts_and_incidents_are_not_found(database: str) -> None:
    topic = incidents()
    process(
        database,
        ingested(alerts(), "a"),
        [
            topic.append(create(), numbered(1)),
            topic.append(create(), numbered(2), tenant="other"),
            topic.append(correlate(alert_id("a")), numbered(2), tenant="other", intent_id="join"),
            topic.append(merge(numbered(1)), numbered(2), tenant="other", intent_id="merge"),
        ],
    )
    assert (outcomes(database)["join"], outcomes(database)["merge"]) == ("ALERT_NOT_FOUND", "INCIDENT_NOT_FOUND")
    assert_sound(database)


def test_a_new_episode_may_join_another_incident_and_the_old_one_keeps_its_count(database: str) -> None:
    alert_topic, topic = alerts(), incidents()

    def join(number: int, intent_id: str) -> list[Record]:
        return [topic.append(correlate(alert_id("a")), numbered(number), intent_id=intent_id)]

    process(database, ingested(alert_topic, "a"), [topic.append(create(), numbered(number)) for number in (1, 2)])
    process(database, join(1, "first"), join(2, "too-early"))
    refired = [
        alert_topic.append(ingest("a", "resolved", 10), alert_id("a"), time=NOW - 50 * MINUTE),
        alert_topic.append(ingest("a", "firing", 20), alert_id("a"), time=NOW - 40 * MINUTE),
    ]
    process(database, refired, join(2, "in-time"), join(2, "once-more"))
    names = ("first", "too-early", "in-time", "once-more")
    assert [outcomes(database)[name] for name in names] == ["facts", "ALERT_ALREADY_CORRELATED", "facts", "no_change"]
    assert_sound(database)
    assert [stored(database)["incident", "acme", numbered(number)].alert_count for number in (1, 2)] == [1, 1]


def test_alerts_that_two_incidents_ask_for_at_the_same_moment_join_exactly_one(database: str) -> None:
    alert_topic, topic = alerts(), incidents()
    rounds = 25
    process(database, [topic.append(create(), numbered(number)) for number in (1, 2)])

    async def meet(number: int, names: list[str]) -> None:
        ids = [alert_id(name) for name in names]
        first = [topic.append(correlate(*ids), numbered(1), intent_id=f"first-{number}", partition=1)]
        second = [topic.append(correlate(*reversed(ids)), numbered(2), intent_id=f"second-{number}", partition=2)]
        async with row_locked(database, "alert", "alert_id", min(ids), waiting=2):
            started = [asyncio.create_task(process_one(database, batch)) for batch in (first, second)]
        await asyncio.gather(*started)

    for number in range(rounds):
        names = [f"{number}-{place}" for place in range(4)]
        process(database, ingested(alert_topic, *names))
        asyncio.run(meet(number, names))
    for number in range(rounds):
        pair = {outcomes(database)[f"{which}-{number}"] for which in ("first", "second")}
        assert pair == {"facts", "ALERT_ALREADY_CORRELATED"}
    assert_sound(database)
    states = stored(database)
    assert sum(states["incident", "acme", numbered(number)].alert_count for number in (1, 2)) == 4 * rounds
    for number in range(rounds):
        assert len({states["alert", "acme", alert_id(f"{number}-{place}")].incident_id for place in range(4)}) == 1
    assert deadlocks(database) == 0


def test_an_incident_that_is_merged_away_while_alerts_join_it_takes_all_of_them_or_none(database: str) -> None:
    alert_topic, topic = alerts(), incidents()

    async def meet(number: int) -> None:
        survivor, source = numbered(2 * number), numbered(2 * number + 1)
        join = [topic.append(correlate(alert_id(f"{number}-a"), alert_id(f"{number}-b")), source, intent_id=f"join-{number}", partition=1)]
        union = [topic.append(merge(source), survivor, intent_id=f"merge-{number}", partition=2)]
        async with row_locked(database, "incident", "incident_id", source, waiting=2):
            started = [asyncio.create_task(process_one(database, batch)) for batch in (join, union)]
        await asyncio.gather(*started)

    for number in range(10):
        process(database, ingested(alert_topic, f"{number}-a", f"{number}-b"))
        process(database, [topic.append(create(), numbered(2 * number + place)) for place in (0, 1)])
        asyncio.run(meet(number))
        assert outcomes(database)[f"merge-{number}"] == "facts"
        assert outcomes(database)[f"join-{number}"] in ("facts", "INCIDENT_NOT_OPEN")
    assert_sound(database)
    assert deadlocks(database) == 0


@pytest.mark.parametrize("seed", range(4))
def test_batches_of_everything_in_opposite_orders_end_in_one_order(database: str, seed: int) -> None:
    random = Random(seed)  # noqa: S311 - a test's choices
    alert_topic, topic = alerts(), incidents()
    names, ids = [f"alert-{number}" for number in range(10)], [numbered(number) for number in range(8)]
    process(database, ingested(alert_topic, *names), [topic.append(create(f"cluster-{one[-1]}"), one) for one in ids])
    sent = len(names) + len(ids)

    def any_intent(partition: int) -> Record:
        subject, *rest = random.sample(ids, 4)
        command: Any = random.choice(
            [
                correlate(*map(alert_id, random.sample(names, random.randint(1, 6)))),
                correlate(*map(alert_id, random.sample(names, 2))),
                merge(*rest[: random.randint(1, 3)]) if random.random() < 0.2 else acknowledge(),
                add_entry(NOW),
                transition(random.choice(["investigating", "mitigating"])),
                resolve() if random.random() < 0.2 else add_entry(NOW),
            ]
        )
        return topic.append(command, subject, partition=partition)

    def any_alert(minute: int) -> Record:
        name = random.choice([*names, f"new-{minute}"])
        status = random.choice(["firing", "resolved"])
        return alert_topic.append(ingest(name, status, minute), alert_id(name), time=NOW - 60 * MINUTE + minute * MINUTE)

    async def meet(held: str, batches: list[list[Record]]) -> None:
        """All incident pipelines want this one, whatever else they hold by then."""
        async with row_locked(database, "incident", "incident_id", held, waiting=3):
            started = [asyncio.create_task(process_one(database, batch)) for batch in batches]
        await asyncio.gather(*started)

    for round_number in range(12):
        held = random.choice(ids)
        batches = [[topic.append(add_entry(NOW), held, partition=one), *(any_intent(one) for _ in range(8))] for one in range(3)]
        batches.append([any_alert(minute) for minute in range(5 * round_number + 1, 5 * round_number + 6)])
        sent += sum(map(len, batches))
        asyncio.run(meet(held, batches))

    results = query(database, "SELECT coalesce(code, outcome) FROM inbox")
    assert len(results) == sent
    assert ("INTERNAL_ERROR",) not in results
    assert {("ALERT_ALREADY_CORRELATED",), ("facts",), ("INCIDENT_CLOSED",)} <= set(results)
    assert_sound(database)
    assert_joint_facts_belong_together(database)
    assert deadlocks(database) == 0


def assert_joint_facts_belong_together(database: str) -> None:
    """An alert's episode is on one incident at most; each side of a joint intent tells of the other; closed stays closed."""
    told = facts(database)
    on_incidents: set[tuple[str, str, str, int]] = set()
    on_alerts: set[tuple[str, str, str, int]] = set()
    merged: set[tuple[str, str, str]] = set()
    closed: set[tuple[str, str, str]] = set()
    for (name, _, aggregate_id), versions in told.items():
        is_closed = False
        for _, fact, _, causation_id in versions:
            assert not is_closed or type(fact) is IncidentTimelineEntryAdded
            is_closed = is_closed or type(fact) is IncidentClosed
            match fact:
                case AlertsCorrelatedToIncident() if name == "incident":
                    assert fact.incident_id == aggregate_id
                    on_incidents.update((causation_id, fact.incident_id, one.alert_id, one.episode) for one in fact.alerts)
                case AlertsCorrelatedToIncident():
                    assert [one.alert_id for one in fact.alerts] == [aggregate_id]
                    on_alerts.add((causation_id, fact.incident_id, aggregate_id, fact.alerts[0].episode))
                case IncidentsMerged():
                    merged.update((causation_id, aggregate_id, source) for source in fact.merged_incident_ids)
                case IncidentClosed() if fact.merged_into is not None:
                    closed.add((causation_id, fact.merged_into, aggregate_id))
    assert on_incidents == on_alerts
    assert len({(one, episode) for _, _, one, episode in on_alerts}) == len(on_alerts) > 0
    assert merged == closed != set()


def test_a_joint_intent_that_fails_half_way_leaves_nothing(database: str) -> None:
    topic = incidents()
    process(database, ingested(alerts(), "a", "b"), [topic.append(create(), numbered(1))])
    query_only = (stored(database), facts(database), outcomes(database))
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("ALTER TABLE incident ADD CONSTRAINT broken CHECK (alert_count < 2)")  # alerts are written before incidents
    join = topic.append(correlate(alert_id("a"), alert_id("b")), numbered(1), intent_id="join")

    async def fail() -> None:
        opener = UnitOpener(as_writer(database), STORAGES)
        with pytest.raises(errors.CheckViolation):
            await process_batch([join], intake(database, INCIDENT, opener))
        await opener.close()

    asyncio.run(fail())
    assert (stored(database), facts(database), outcomes(database)) == query_only
    one = topic.append(correlate(alert_id("a")), numbered(1), intent_id="one")
    process(database, [join, one])
    assert sorted(query(database, "SELECT coalesce(code, outcome), cardinality(fact_ids) FROM inbox WHERE topic = %s", topic.name)) == [
        ("INTERNAL_ERROR", 0),
        ("facts", 1),
        ("facts", 2),
    ]
    assert_sound(database)
