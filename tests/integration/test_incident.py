"""Incidents against a real PostgreSQL: intents in, rows and facts out, and what the read side makes of the rows."""

from __future__ import annotations

import asyncio
import re
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.support.incidents import acknowledge, add_entry, assign, close, create, merge, numbered, reclassify, resolve, transition
from tests.support.pipelines import assert_sound, outcomes, process, query, stored
from tests.support.reads import rows_read
from tests.support.records import NOW, Topic
from tests.support.roles import as_reader
from worker.domain.incident import Incident, TimelineEntry
from worker.domain.incident_status import STATUSES
from worker.postgres import incident_rows
from worker.postgres.connection import SESSION, connect
from worker.postgres.named_sql import statements
from worker.postgres.queries.incident import IncidentView, SreIncidentQueryService
from worker.postgres.queries.reading import Page, QueryError, connect_reader
from worker.postgres.storage import Change

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.envelope import Record
    from worker.postgres.storage import Key

START = NOW - timedelta(hours=1)
LAST_INSTANT = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
ENTRIES = tuple(
    TimelineEntry(entry_id=numbered(place), kind="note", text=text, occurred_at=occurred_at, actor="ann")
    for place, (text, occurred_at) in enumerate(
        [("日本 🙂 \u2028 {} %s \\", NOW), ('\n\t"', datetime(1, 1, 1, tzinfo=UTC)), ("x" * 10_000, LAST_INSTANT)], start=90
    )
)
FULL = Incident(
    version=9,
    created_at=START,
    updated_at=START + timedelta(microseconds=1),
    title="日本 🙂 {} %s \\",
    description="quotes ' \" and\nlines\t",
    severity="critical",
    status="closed",
    source="agent",
    affected_resources=("prod-eu/-/ingress", "a"),
    assigned_to="bob",
    timeline=ENTRIES,
    timeline_length=3,
    acknowledged_by="ann",
    acknowledged_at=START + timedelta(microseconds=999999),
    resolution="rolled\nback",
    resolved_at=LAST_INSTANT,
    merged_into=numbered(7),
    alert_count=2**31 - 1,
    status_changed_at=datetime(1, 1, 1, tzinfo=UTC),
)
BARE = Incident(
    version=1,
    created_at=START,
    updated_at=START,
    title="Checkout is slow",
    description="",
    severity="low",
    status="open",
    source="manual",
    affected_resources=(),
    assigned_to=None,
    timeline=(),
    timeline_length=0,
    acknowledged_by=None,
    acknowledged_at=None,
    resolution=None,
    resolved_at=None,
    merged_into=None,
    alert_count=0,
    status_changed_at=START,
)
RESOLVED = replace(BARE, status="resolved", resolution="rolled back", resolved_at=START)


def topic() -> Topic:
    return Topic("sre.incident.intents.v1")


def save(database: str, changes: dict[Key, Change]) -> None:
    async def write() -> None:
        async with await connect(database) as connection:
            await incident_rows.save(connection, changes)

    asyncio.run(write())


def insert(database: str, *incidents: Incident, tenant: str = "acme") -> None:
    """Numbered from 0."""
    save(database, {(tenant, numbered(number)): Change(None, incident) for number, incident in enumerate(incidents)})


def locked(database: str, *keys: Key) -> dict[Key, Incident]:
    async def lock() -> dict[Key, Incident]:
        async with await connect(database) as connection:
            return await incident_rows.lock(connection, dict.fromkeys(keys, ()))

    return asyncio.run(lock())


# --- Rows


@pytest.mark.parametrize(("before", "after"), [(FULL, BARE), (BARE, FULL), (FULL, FULL), (BARE, BARE)])
def test_a_row_holds_the_state_exactly_when_inserted_and_when_updated(database: str, before: Incident, after: Incident) -> None:
    keys = [("acme", numbered(1)), ("globex", numbered(1))]
    save(database, {key: Change(None, before) for key in keys})
    assert stored(database) == {("incident", *key): before for key in keys}
    lasting: dict[str, Any] = {name: getattr(before, name) for name in ("created_at", "title", "description", "source")}
    timeline = before.timeline + after.timeline
    after = replace(after, **lasting, timeline=timeline, timeline_length=len(timeline))
    save(database, {keys[0]: Change(before, after)})
    assert stored(database) == {("incident", *keys[0]): after, ("incident", *keys[1]): before}


def test_a_batch_reads_no_timeline_and_adds_to_its_end(database: str) -> None:
    insert(database, FULL)
    key = ("acme", numbered(0))
    before = locked(database, key)[key]
    assert before == replace(FULL, timeline=())
    entry = replace(ENTRIES[0], entry_id=numbered(1), text="one more")
    save(database, {key: Change(before, replace(before, version=10, timeline=(entry,), timeline_length=4))})
    assert stored(database)["incident", *key].timeline == (*ENTRIES, entry)
    positions = query(database, "SELECT position FROM incident_timeline ORDER BY position")
    assert positions == [(1,), (2,), (3,), (4,)]


def test_an_incident_through_its_life(database: str) -> None:
    intents = topic()
    steps: list[tuple[object, str]] = [
        (acknowledge(), "INCIDENT_NOT_FOUND"),
        (create("prod-eu", "prod eu"), "RESOURCE_REF_INVALID"),
        (create("prod-eu", "prod-eu"), "facts"),
        (create(), "INCIDENT_ALREADY_EXISTS"),
        (reclassify("high"), "SEVERITY_UNCHANGED"),
        (reclassify("low", version=2), "VERSION_CONFLICT"),
        (reclassify("low", version=1), "facts"),
        (assign(" "), "ASSIGNEE_REQUIRED"),
        (assign("bob"), "facts"),
        (assign("bob"), "no_change"),
        (add_entry(START, kind="rumour"), "TIMELINE_KIND_UNKNOWN"),
        (add_entry(LAST_INSTANT), "TIMESTAMP_IN_FUTURE"),
        (add_entry(START), "facts"),
        (close(), "INCIDENT_NOT_RESOLVED"),
        (acknowledge(), "facts"),
        (acknowledge(), "ALREADY_ACKNOWLEDGED"),
        (transition("open"), "INVALID_TRANSITION"),
        (transition("closed"), "USE_DEDICATED_INTENT"),
        (transition("mitigating"), "facts"),
        (transition("mitigating"), "no_change"),
        (resolve("\n"), "RESOLUTION_REQUIRED"),
        (resolve(), "facts"),
        (transition("investigating"), "facts"),
        (resolve("replaced"), "facts"),
        (merge(numbered(2)), "MERGE_TARGET_INVALID"),
        (close(), "facts"),
        (close(), "INCIDENT_CLOSED"),
        (add_entry(START), "facts"),
    ]
    records = [
        intents.append(command, numbered(1), intent_id=f"step-{place}", time=START + place * timedelta(minutes=1))
        for place, (command, _) in enumerate(steps)
    ]
    late = intents.append(acknowledge(), numbered(2), intent_id="late", time=START - timedelta(minutes=6))
    process(database, records[:15], records[15:], [intents.append(create(), numbered(2), time=START), late])
    assert [outcomes(database)[f"step-{place}"] for place in range(len(steps))] == [expected for _, expected in steps]
    assert outcomes(database)["late"] == "TIMESTAMP_REGRESSION"
    assert_sound(database)
    incident = stored(database)["incident", "acme", numbered(1)]
    assert (incident.status, incident.resolution, incident.affected_resources) == ("closed", "replaced", ("prod-eu",))
    assert incident.timeline_length == len(incident.timeline) == 2


def test_a_timeline_ends_at_its_limit_whatever_the_batches(database: str) -> None:
    intents = topic()
    process(database, [intents.append(create(), numbered(1))])
    for size in (200, 299):
        process(database, [intents.append(add_entry(NOW), numbered(1)) for _ in range(size)])
    process(database, [intents.append(add_entry(NOW), numbered(1), intent_id=name) for name in ("last", "too-many")])
    assert (outcomes(database)["last"], outcomes(database)["too-many"]) == ("facts", "LIMIT_EXCEEDED")
    process(database, [intents.append(add_entry(NOW), numbered(1), intent_id="still-too-many")])
    assert outcomes(database)["still-too-many"] == "LIMIT_EXCEEDED"
    assert_sound(database)
    assert len({entry.entry_id for entry in stored(database)["incident", "acme", numbered(1)].timeline}) == 500


@pytest.mark.parametrize("seed", range(5))
def test_folding_the_facts_that_went_out_gives_the_rows_and_repeats_change_nothing(database: str, seed: int) -> None:
    random = Random(seed)  # noqa: S311 - a reproducible history
    intents = topic()
    for _ in range(6):
        batch = [random_record(random, intents) for _ in range(random.randint(20, 60))]
        process(database, batch)
        before = everything(database)
        process(database, random.sample(batch, len(batch)))
        assert everything(database) == before
    assert_sound(database)
    assert {outcome for (outcome,) in query(database, "SELECT outcome FROM inbox")} == {"facts", "no_change", "rejected"}


def random_record(random: Random, intents: Topic) -> Record:
    time = START + random.randint(0, 30) * timedelta(minutes=1)
    version = random.choice([None, None, random.randint(1, 9)])
    subject, *rest = random.sample(range(4), 3)
    commands = [
        create(*random.sample(["a", "b", "c"], 2)),
        create(),
        reclassify(random.choice(["low", "high"]), version),
        assign(random.choice(["bob", "cho"]), version),
        add_entry(time, "x" * random.randint(1, 10_000), version=version),
        add_entry(time),
        acknowledge(version=version),
        transition(random.choice(STATUSES), version),
        transition("investigating"),
        resolve(version=version),
        close(version),
        merge(*map(numbered, rest)),
    ]
    return intents.append(
        random.choice(commands), numbered(subject), tenant=random.choice(["acme", "globex"]), time=time, partition=random.randint(0, 2)
    )


def everything(database: str) -> list[Any]:
    tables = ("inbox", "outbox", "incident", "incident_timeline")
    return [query(database, f"SELECT * FROM {table} ORDER BY 1, 2, 3") for table in tables]  # noqa: S608


def test_a_batch_finds_its_rows_by_index(database: str) -> None:
    insert(database, *[BARE] * 3000)
    statement = re.sub(
        rb"%\((tenant_ids|ids)\)b", lambda match: {b"tenant_ids": b"$1", b"ids": b"$2"}[match[1]], statements("incident")["lock_rows"]
    )
    assert "incident_pkey" in plan(database, b"EXPLAIN (GENERIC_PLAN) " + statement)


def plan(database: str, explain: bytes) -> str:
    with psycopg.connect(database) as connection:
        connection.execute("ANALYZE incident")
        for setting in SESSION:
            connection.execute(setting)
        lines = "\n".join(row[0] for row in connection.execute(explain))
    assert "Seq Scan on incident" not in lines, lines
    return lines


# --- The read side


@pytest.fixture
def service(database: str) -> Iterator[SreIncidentQueryService]:
    with connect_reader(as_reader(database)) as connection:
        yield SreIncidentQueryService(connection)


def ids(page: Page[IncidentView]) -> list[str]:
    return [incident.incident_id for incident in page.items]


def code_of(call: Any) -> str:  # noqa: ANN401 - any call
    with pytest.raises(QueryError) as raised:
        call()
    return raised.value.code


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_every_attribute_is_read_exactly_whatever_the_time_zone(database: str, service: SreIncidentQueryService, zone: str) -> None:
    insert(database, FULL)
    service.connection.execute("SELECT set_config('timezone', %s, false)", [zone])
    service.connection.execute("SET search_path = pg_catalog")
    view = service.get_incident("acme", numbered(0))
    assert view is not None
    attributes = Incident.__dataclass_fields__.keys() - {"timeline_length"}
    assert {name: getattr(view, name) for name in attributes} == {name: getattr(FULL, name) for name in attributes}
    assert {field.name for field in fields(view)} == {"tenant_id", "incident_id", *attributes}
    assert (view.tenant_id, view.incident_id) == ("acme", numbered(0))
    times = [getattr(view, field.name) for field in fields(view) if isinstance(getattr(view, field.name), datetime)]
    assert {time.utcoffset() for time in times} == {timedelta(0)}


def test_an_incident_alone_has_its_timeline_and_in_a_list_none(database: str, service: SreIncidentQueryService) -> None:
    insert(database, replace(BARE, timeline=ENTRIES, timeline_length=3), BARE)
    alone = [service.get_incident("acme", numbered(number)) for number in (0, 1)]
    assert [None if view is None else view.timeline for view in alone] == [ENTRIES, ()]
    assert service.list_open_incidents("acme").items == tuple(replace(view, timeline=None) for view in alone if view is not None)


def test_an_incident_of_another_tenant_is_neither_found_nor_listed(database: str, service: SreIncidentQueryService) -> None:
    insert(database, replace(BARE, timeline=ENTRIES, timeline_length=3), tenant="globex")
    insert(database, replace(BARE, title="ours"))
    ours = service.get_incident("acme", numbered(0))
    assert ours is not None
    assert (ours.title, ours.timeline) == ("ours", ())
    assert [view.title for view in service.list_open_incidents("acme").items] == ["ours"]
    assert service.get_incident("initech", numbered(0)) is None
    assert service.list_open_incidents("initech") == Page((), None)


@pytest.mark.parametrize("unknown", ["", "checkout", numbered(5), numbered(0).upper() + " ", "\0", "\ud800"])
def test_what_is_no_incidents_id_is_not_found(database: str, service: SreIncidentQueryService, unknown: str) -> None:
    insert(database, BARE)
    assert service.get_incident("acme", unknown) is None


def test_open_is_all_that_is_neither_resolved_nor_closed(database: str, service: SreIncidentQueryService) -> None:
    by_status = {status: replace(RESOLVED if status in ("resolved", "closed") else BARE, status=status) for status in STATUSES}
    insert(database, *by_status.values())
    assert [view.status for view in service.list_open_incidents("acme").items] == ["open", "acknowledged", "investigating", "mitigating"]


@pytest.mark.parametrize("page_size", [1, 7, 50, 200])
def test_pages_hold_each_row_once_while_rows_are_added_and_resolved(
    database: str, service: SreIncidentQueryService, page_size: int
) -> None:
    # Four rows an instant, ids against the grain: ties are broken by id.
    created = [replace(BARE, created_at=START + timedelta(microseconds=(119 - number) // 4)) for number in range(120)]
    insert(database, *created)
    expected = sorted(range(120), key=lambda number: (created[number].created_at, number))
    seen: list[str] = []
    page = service.list_open_incidents("acme", page_size)
    seen += ids(page)
    save(database, {("acme", seen[-1]): Change(BARE, replace(RESOLVED, version=2))})  # the row that the token names
    save(database, {("acme", numbered(500)): Change(None, replace(BARE, created_at=START - timedelta(days=1)))})  # before the page
    while page.next is not None:
        page = service.list_open_incidents("acme", page_size, page.next)
        seen += ids(page)
    assert seen == [numbered(number) for number in expected]


def test_a_wrong_argument_has_its_code(database: str, service: SreIncidentQueryService) -> None:
    insert(database, BARE, BARE)
    assert code_of(lambda: service.get_incident("", numbered(0))) == "TENANT_REQUIRED"
    assert code_of(lambda: service.list_open_incidents(" acme")) == "TENANT_REQUIRED"
    assert [code_of(lambda size=size: service.list_open_incidents("acme", size)) for size in (0, 201, 2**40)] == ["PAGE_SIZE_INVALID"] * 3
    token = service.list_open_incidents("acme", 1).next
    assert token is not None
    assert code_of(lambda: service.list_open_incidents("globex", 1, token)) == "PAGE_TOKEN_INVALID"
    assert code_of(lambda: service.list_open_incidents("acme", 1, token + "0")) == "PAGE_TOKEN_INVALID"


def test_a_page_is_read_by_its_index(database: str, service: SreIncidentQueryService) -> None:
    insert(database, *[RESOLVED] * 3000, *[BARE] * 50)
    with psycopg.connect(database) as connection:
        connection.execute("ANALYZE incident")
    read = rows_read(database, service.connection, "incident", lambda: service.list_open_incidents("acme", 20))
    assert read == {"incident_unresolved_by_creation": 20}
