"""Alerts against a real PostgreSQL: intents in, rows and facts out, and what the read side makes of the rows."""

from __future__ import annotations

import asyncio
import re
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from random import Random
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
import pytest

from tests.support.pipelines import process
from tests.support.reads import rows_read
from tests.support.records import CODEC, NOW, Topic
from tests.support.roles import as_reader
from worker.domain.aggregate import ALERT
from worker.domain.alert import AcknowledgeAlert, Alert, Command, IngestAlert, SilenceAlert, UnsilenceAlert, alert_id_of
from worker.domain.fingerprint import fingerprint_of
from worker.domain.outcome import Context
from worker.postgres.alert_rows import ALERT_STORAGE
from worker.postgres.connection import SESSION, connect
from worker.postgres.named_sql import statements
from worker.postgres.queries.alert import AlertView, SreAlertQueryService
from worker.postgres.queries.reading import Page, QueryError, connect_reader
from worker.postgres.storage import Change

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.envelope import Record
    from worker.postgres.storage import Key

PARTITIONS = {"sre.alert.facts.v1": 12, "sre.intents.rejected.v1": 12}
INCIDENT = "5f8d2c1e-6b1d-4f0f-8c64-0b8f6a3d2e10"
MINUTE = timedelta(minutes=1)
START = NOW - timedelta(hours=1)

FULL = Alert(
    version=3,
    created_at=START,
    updated_at=START + timedelta(microseconds=1),
    source="custom",
    fingerprint="!\"#$%&'()*+,-./{}~",
    name="日本 🙂 \u2028 {} %s \\",
    severity="low",
    status="resolved",
    labels={"a": '"', "\\u0000": "\n\t\x01", "日本": "🙂", " ": "{}"},
    annotations={"": "", "null": "null"},
    starts_at=datetime(1970, 1, 1, tzinfo=UTC),
    ends_at=datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    episode=2**31 - 1,
    observed_at=START,
    incident_id=INCIDENT,
    acknowledged_by="ann",
    acknowledged_at=START + timedelta(microseconds=999999),
    silenced_until=datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    silence_reason="",
)
BARE = Alert(
    version=1,
    created_at=START,
    updated_at=START,
    source="prometheus",
    fingerprint="7d2d332feada5c59",
    name="HighErrorRate",
    severity="critical",
    status="firing",
    labels={"alertname": "HighErrorRate"},
    annotations={},
    starts_at=START,
    ends_at=None,
    episode=1,
    observed_at=START,
)


def stored(database: str) -> dict[Key, Alert]:
    async def read() -> dict[Key, Alert]:
        async with await connect(database) as connection:
            return await ALERT_STORAGE.read_all(connection)

    return asyncio.run(read())


def save(database: str, changes: dict[Key, Change]) -> None:
    async def write() -> None:
        async with await connect(database) as connection:
            await ALERT_STORAGE.save(connection, changes)

    asyncio.run(write())


def query(database: str, statement: str) -> list[Any]:
    with psycopg.connect(database) as connection:
        connection.execute("SET TIME ZONE 'UTC'")
        return connection.execute(statement).fetchall()


def ingest(pod: str = "a", status: str = "firing", minute: float = 0, **changes: Any) -> IngestAlert:  # noqa: ANN401
    labels = {"alertname": "HighErrorRate", "service": "checkout", "pod": pod}
    alert: dict[str, Any] = {
        "source": "prometheus",
        "fingerprint": fingerprint_of(labels),
        "name": "HighErrorRate",
        "severity": "critical",
        "status": status,
        "labels": labels,
        "annotations": {"summary": "5 % fail"},
        "starts_at": START + minute * MINUTE,
    }
    return IngestAlert(**alert | changes)


def id_of(command: IngestAlert, tenant: str = "acme") -> str:
    return alert_id_of(tenant, command.source, command.fingerprint)


# --- Rows


@pytest.mark.parametrize(("before", "after"), [(FULL, BARE), (BARE, FULL), (FULL, FULL), (BARE, BARE)])
def test_a_row_holds_the_state_exactly_when_inserted_and_when_updated(database: str, before: Alert, after: Alert) -> None:
    keys = [("acme", INCIDENT), ("globex", INCIDENT)]
    save(database, {key: Change(None, before) for key in keys})
    assert stored(database) == dict.fromkeys(keys, before)
    after = replace(after, source=before.source, fingerprint=before.fingerprint, created_at=before.created_at)  # these never change
    save(database, {keys[0]: Change(before, after)})
    assert stored(database) == {keys[0]: after, keys[1]: before}
    (read,) = (alert for (tenant, _), alert in stored(database).items() if tenant == "acme")
    assert {read.updated_at.tzinfo, read.starts_at.tzinfo} == {UTC}


def test_an_alert_through_its_episodes(database: str) -> None:
    topic = Topic("sre.alert.intents.v1")
    alert_id = id_of(ingest())
    steps: list[tuple[Command, str, str | None]] = [
        (AcknowledgeAlert(actor="ann"), "rejected", "ALERT_NOT_FOUND"),
        (ingest(), "facts", None),
        (ingest(), "no_change", None),
        (AcknowledgeAlert(actor="ann"), "facts", None),
        (AcknowledgeAlert(actor="bob"), "rejected", "ALREADY_ACKNOWLEDGED"),
        (SilenceAlert(until=NOW, reason="deploy", actor="ann"), "facts", None),
        (SilenceAlert(until=START, actor="ann"), "rejected", "ALERT_TIME_RANGE_INVALID"),
        (ingest(status="resolved"), "facts", None),
        (AcknowledgeAlert(actor="ann", expected_version=1), "rejected", "VERSION_CONFLICT"),
        (AcknowledgeAlert(actor="ann"), "rejected", "ALERT_NOT_FIRING"),
        (ingest(status="firing", minute=20), "facts", None),
        (ingest(status="resolved", ends_at=START + 19 * MINUTE, minute=1), "rejected", "ALERT_STALE"),
        (UnsilenceAlert(actor="ann"), "facts", None),
        (UnsilenceAlert(actor="ann"), "no_change", None),
        (ingest(fingerprint="f"), "rejected", "FINGERPRINT_MISMATCH"),
        (ingest(source="custom"), "rejected", "SCHEMA_INVALID"),
    ]
    process(database, [topic.append(command, alert_id, time=START + (2 * n) * MINUTE) for n, (command, _, _) in enumerate(steps)])
    assert query(database, 'SELECT outcome, code FROM inbox ORDER BY "offset"') == [(outcome, code) for _, outcome, code in steps]
    facts = query(database, "SELECT type, aggregateid FROM outbox WHERE aggregatetype = 'alert' ORDER BY aggregate_version")
    assert [(name.removeprefix("sre.core.v1."), of) for name, of in facts] == [
        (name, alert_id)
        for name in ("AlertIngested", "AlertAcknowledged", "AlertSilenced", "AlertIngested", "AlertIngested", "AlertUnsilenced")
    ]
    alert = stored(database)["acme", alert_id]
    assert (alert.version, alert.episode, alert.status, alert.acknowledged_by, alert.silenced_until) == (6, 2, "firing", None, None)


@pytest.mark.parametrize("seed", range(6))
def test_folding_the_facts_that_went_out_gives_the_rows(database: str, seed: int) -> None:
    random = Random(seed)  # noqa: S311 - a reproducible history
    topic = Topic("sre.alert.intents.v1")
    for _ in range(6):
        batch = [random_record(random, topic) for _ in range(random.randint(1, 60))]
        process(database, batch)
        before = everything(database)
        process(database, random.sample(batch, len(batch)))
        assert everything(database) == before
    folded = fold(database)
    assert folded == stored(database)
    assert len(folded) == 6
    outcomes = {outcome for (outcome,) in query(database, "SELECT outcome FROM inbox")}
    assert outcomes == {"facts", "no_change", "rejected"}


def random_record(random: Random, topic: Topic) -> Record:
    tenant, minute = random.choice(["acme", "globex"]), random.randint(0, 50)
    told = ingest(
        random.choice("abc"),
        random.choice(["firing", "resolved"]),
        random.randint(0, 50),
        ends_at=random.choice([None, START + random.randint(0, 50) * MINUTE]),
        severity=random.choice(["critical", "low"]),
    )
    version = random.choice([None, None, random.randint(1, 20)])
    commands: list[Command] = [
        told,
        told,
        AcknowledgeAlert(actor="ann", expected_version=version),
        SilenceAlert(until=START + random.randint(0, 50) * MINUTE, actor="ann", expected_version=version),
        UnsilenceAlert(actor="ann", expected_version=version),
    ]
    return topic.append(
        random.choice(commands), id_of(told, tenant), tenant=tenant, time=START + minute * MINUTE, partition=random.randint(0, 2)
    )


def everything(database: str) -> list[Any]:
    return [query(database, f"SELECT * FROM {table} ORDER BY 1, 2, 3") for table in ("inbox", "outbox", "alert")]  # noqa: S608


def fold(database: str) -> dict[Key, Alert]:
    facts: dict[Key, list[Any]] = {}
    for tenant, alert_id, name, payload, time in query(
        database,
        "SELECT tenant_id, aggregateid, type, payload, ce_time::timestamptz FROM outbox"
        " WHERE aggregatetype = 'alert' ORDER BY tenant_id, aggregateid, aggregate_version",
    ):
        fact = name.removeprefix("sre.core.v1.")
        decoded = ALERT.facts[fact].validate_python(CODEC.decode(fact, payload))
        facts.setdefault((tenant, alert_id), []).append((decoded, Context(tenant, alert_id, time)))
    return {key: reduce(lambda alert, item: ALERT.evolve(alert, *item), told, None) for key, told in facts.items()}


def test_a_batch_finds_its_rows_by_index(database: str) -> None:
    save(database, {("acme", number(n)): Change(None, BARE) for n in range(3_000)})
    statement = re.sub(
        rb"%\((tenant_ids|ids)\)b", lambda match: {b"tenant_ids": b"$1", b"ids": b"$2"}[match[1]], statements("alert")["lock_rows"]
    )
    with psycopg.connect(database) as connection:
        connection.execute("ANALYZE alert")
        for setting in SESSION:
            connection.execute(setting)
        plan = "\n".join(row[0] for row in connection.execute(b"EXPLAIN (GENERIC_PLAN) " + statement))
    assert "alert_pkey" in plan, plan
    assert "Seq Scan on alert" not in plan, plan


# --- The read side


@pytest.fixture
def service(database: str) -> Iterator[SreAlertQueryService]:
    with connect_reader(as_reader(database)) as connection:
        yield SreAlertQueryService(connection)


def as_superuser(database: str, statement: LiteralString, arguments: Sequence[object] = ()) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(statement, arguments)


def number(n: int) -> str:
    return f"00000000-0000-5000-8000-{n:012}"


def ids(page: Page[AlertView]) -> list[str]:
    return [alert.alert_id for alert in page.items]


def code_of(call: Any) -> str:  # noqa: ANN401 - any call
    with pytest.raises(QueryError) as raised:
        call()
    return raised.value.code


@pytest.mark.parametrize(
    ("alert", "zone"), [(FULL, "Asia/Kolkata"), (BARE, "Asia/Kolkata"), (replace(FULL, ends_at=NOW, silenced_until=NOW), "Asia/Kolkata")]
)
def test_every_attribute_is_read_exactly(database: str, service: SreAlertQueryService, alert: Alert, zone: str) -> None:
    save(database, {("acme", number(1)): Change(None, alert)})
    service.connection.execute("SELECT set_config('timezone', %s, false)", [zone])
    service.connection.execute("SET search_path = pg_catalog")
    view = service.get_alert("acme", number(1))
    assert view is not None
    assert {name: getattr(view, name) for name in Alert.__dataclass_fields__} == {
        name: getattr(alert, name) for name in Alert.__dataclass_fields__
    }
    assert {field.name for field in fields(view)} == {"tenant_id", "alert_id", *Alert.__dataclass_fields__}
    assert (view.tenant_id, view.alert_id) == ("acme", number(1))
    times = [getattr(view, field.name) for field in fields(view) if isinstance(getattr(view, field.name), datetime)]
    assert {time.utcoffset() for time in times} == {timedelta(0)}
    assert service.list_active_alerts("acme").items == ((view,) if alert.status == "firing" else ())


def test_an_alert_of_another_tenant_is_neither_found_nor_listed(database: str, service: SreAlertQueryService) -> None:
    joined = replace(BARE, incident_id=INCIDENT)
    save(database, {("globex", number(1)): Change(None, joined), ("acme", number(2)): Change(None, replace(joined, name="ours"))})
    assert service.get_alert("acme", number(1)) is None
    assert service.get_alert("globex", number(2)) is None
    assert ids(service.list_active_alerts("acme")) == ids(service.list_active_alerts("acme", INCIDENT)) == [number(2)]
    assert ids(service.list_active_alerts("globex")) == ids(service.list_active_alerts("globex", INCIDENT)) == [number(1)]
    assert service.list_active_alerts("initech") == Page((), None)


def test_active_is_firing_acknowledged_and_silenced_ones_too(database: str, service: SreAlertQueryService) -> None:
    acknowledged = replace(BARE, acknowledged_by="ann", acknowledged_at=START)
    silenced = replace(BARE, silenced_until=NOW, silence_reason="deploy")
    resolved = replace(BARE, status="resolved", ends_at=START)
    alerts = [BARE, acknowledged, silenced, resolved]
    save(database, {("acme", number(n)): Change(None, alert) for n, alert in enumerate(alerts)})
    assert ids(service.list_active_alerts("acme")) == [number(0), number(1), number(2)]


def test_alerts_of_one_incident_are_listed_alone(database: str, service: SreAlertQueryService) -> None:
    joined = replace(BARE, incident_id=INCIDENT)
    alerts = [BARE, joined, replace(BARE, incident_id=number(9)), joined, replace(joined, status="resolved", ends_at=START)]
    save(database, {("acme", number(n)): Change(None, alert) for n, alert in enumerate(alerts)})
    assert ids(service.list_active_alerts("acme", INCIDENT)) == [number(1), number(3)]
    assert ids(service.list_active_alerts("acme", number(8))) == []
    assert ids(service.list_active_alerts("acme", "")) == []
    first = service.list_active_alerts("acme", INCIDENT, 1)
    assert ids(service.list_active_alerts("acme", INCIDENT, 1, first.next)) == [number(3)]


@pytest.mark.parametrize("page_size", [1, 7, 40, 50, 120, 200])
@pytest.mark.parametrize("incident_id", [None, INCIDENT])
def test_pages_hold_each_row_once_while_rows_are_inserted_and_changed(
    database: str, service: SreAlertQueryService, page_size: int, incident_id: str | None
) -> None:
    joined = replace(BARE, incident_id=INCIDENT)
    # Four rows an instant, ids against the grain: ties are broken by id.
    held = [(START + timedelta(microseconds=n // 4), number(n * 7919 % 120)) for n in range(120)]
    save(database, {("acme", alert_id): Change(None, replace(joined, created_at=created_at)) for created_at, alert_id in held})
    save(database, {("globex", number(1)): Change(None, joined)})
    seen: list[str] = []
    after: str | None = None
    for pages in range(150):
        page = service.list_active_alerts("acme", incident_id, page_size, after)
        seen += ids(page)
        earlier = replace(joined, created_at=START - timedelta(days=1, seconds=pages))
        save(database, {("acme", number(1000 + pages)): Change(None, earlier)})
        as_superuser(database, "UPDATE alert SET version = version + 1, updated_at = now() WHERE tenant_id = 'acme'")
        after = page.next
        if after is None:
            break
    assert seen == [alert_id for _, alert_id in sorted(held)]


def test_a_token_is_good_where_its_alert_has_resolved_and_for_its_own_tenant_only(database: str, service: SreAlertQueryService) -> None:
    save(database, {("acme", number(n)): Change(None, BARE) for n in range(3)})
    token = service.list_active_alerts("acme", None, 1).next
    as_superuser(database, "UPDATE alert SET status = 'resolved', ends_at = now() WHERE alert_id = %s", [number(0)])
    assert ids(service.list_active_alerts("acme", None, 5, token)) == [number(1), number(2)]
    assert code_of(lambda: service.list_active_alerts("globex", None, 1, token)) == "PAGE_TOKEN_INVALID"
    assert code_of(lambda: service.list_active_alerts("acme", None, 1, "x")) == "PAGE_TOKEN_INVALID"


def test_wrong_arguments_have_codes(service: SreAlertQueryService) -> None:
    assert code_of(lambda: service.get_alert("", number(1))) == "TENANT_REQUIRED"
    assert code_of(lambda: service.list_active_alerts("a b")) == "TENANT_REQUIRED"
    for page_size in (0, -1, 201, 2**40):
        assert code_of(lambda page_size=page_size: service.list_active_alerts("acme", None, page_size)) == "PAGE_SIZE_INVALID"


@pytest.mark.parametrize("hostile", ["", "ID", "%", "\0", "\ud800", "'; DROP TABLE alert; --", "x" * 1_000_000])
def test_a_hostile_id_finds_nothing(database: str, service: SreAlertQueryService, hostile: str) -> None:
    save(database, {("acme", number(1)): Change(None, replace(BARE, incident_id=INCIDENT))})
    assert service.get_alert("acme", hostile) is None
    assert service.list_active_alerts("acme", hostile).items == ()


@pytest.mark.parametrize(("incident_id", "index"), [(None, "alert_firing"), (INCIDENT, "alert_firing_of_incident")])
@pytest.mark.parametrize("first_page", [True, False])
def test_a_page_is_read_off_the_index_in_its_order(
    database: str, service: SreAlertQueryService, incident_id: str | None, index: str, *, first_page: bool
) -> None:
    alerts = {
        (tenant, number(n)): Change(None, replace(BARE, created_at=START + n * MINUTE, incident_id=(INCIDENT, number(n % 9), None)[n % 3]))
        for tenant in ("acme", "globex")
        for n in range(3_000)
    }
    save(database, alerts)
    as_superuser(database, "ANALYZE alert")
    after = None if first_page else service.list_active_alerts("acme", incident_id, 150).next
    read = rows_read(database, service.connection, "alert", lambda: service.list_active_alerts("acme", incident_id, 20, after))
    assert read == {index: 20}
