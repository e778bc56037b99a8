"""Health checks and fleet states against a real PostgreSQL: the pipeline, the fold, an import of Argo CD's, and the read side."""

from __future__ import annotations

import asyncio
import json
from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest

from tests.support import pipelines
from tests.support.reads import rows_read
from tests.support.records import CODEC, NOW, Topic
from tests.support.roles import as_reader
from worker.domain.aggregate import AGGREGATES
from worker.domain.argocd_health import READINGS
from worker.domain.fields import parse_rfc3339
from worker.domain.fleetstate import COUNTS, RecordFleetState, stream_id
from worker.domain.healthcheck import HealthCondition, RecordHealthCheck, healthcheck_id
from worker.domain.ids import uid
from worker.domain.outcome import Context
from worker.integrations.argocd import fleet_state, health_checks, read_applications
from worker.postgres.queries.health import FleetStateView, SreHealthQueryService
from worker.postgres.queries.reading import Page, QueryError, connect_reader
from worker.postgres.storages import STORAGES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.envelope import Record

Command = RecordHealthCheck | RecordFleetState

MINUTE = timedelta(minutes=1)
REF = "prod-eu/payments/checkout"
TABLES = ("inbox", "outbox", "healthcheck", "fleetstate")


def check(ref: str = REF, **changes: object) -> RecordHealthCheck:
    fields = {"resource_ref": ref, "source": "argocd", "timestamp": NOW, "status": "healthy", "raw_status": "Healthy"}
    return RecordHealthCheck(**{**fields, **changes})  # type: ignore[arg-type]


def snapshot(healthy: int = 3, cluster: str = "prod-eu", environment: str = "production", **changes: object) -> RecordFleetState:
    fields = {
        "environment_id": environment,
        "cluster_id": cluster,
        "timestamp": NOW,
        "total_applications": healthy + 3,
        "healthy_count": healthy,
        "degraded_count": 2,
        "progressing_count": 0,
        "unknown_count": 1,
        "out_of_sync_count": 1,
    }
    return RecordFleetState(**{**fields, **changes})  # type: ignore[arg-type]


def subject_of(command: Command, tenant: str) -> str:
    if isinstance(command, RecordHealthCheck):
        return healthcheck_id(tenant, command.resource_ref, command.source)
    return stream_id(tenant, command.environment_id, command.cluster_id)


class Bus:
    """The two intent topics, each command under the id that follows from it."""

    def __init__(self) -> None:
        self._topics = {kind: Topic(f"sre.{name}.intents.v1") for kind, name in NAMES.items()}

    def append(self, command: Command, tenant: str = "acme", **rest: Any) -> Record:  # noqa: ANN401
        return self._topics[type(command)].append(command, subject_of(command, tenant), tenant=tenant, **rest)


NAMES: dict[type, str] = {RecordHealthCheck: "healthcheck", RecordFleetState: "fleetstate"}


def process(database: str, records: Sequence[Record]) -> None:
    """As their agents would: each topic's records in their order."""
    topics = dict.fromkeys(record.topic for record in records)
    pipelines.process(database, *([record for record in records if record.topic == topic] for topic in topics))


def query(database: str, statement: str) -> list[Any]:
    with psycopg.connect(database) as connection:
        return connection.execute(statement).fetchall()


def outcomes(database: str) -> list[tuple[str, str, str | None]]:
    return query(database, 'SELECT intent_id, outcome, code FROM inbox ORDER BY topic DESC, partition, "offset"')


def everything(database: str) -> list[Any]:
    return [query(database, f"SELECT * FROM {table} ORDER BY 1, 2, 3") for table in TABLES]  # noqa: S608


def stored(database: str, name: str) -> dict[tuple[str, str], Any]:
    async def read() -> dict[tuple[str, str], Any]:
        async with await psycopg.AsyncConnection.connect(database) as connection:
            await connection.execute("SET TIME ZONE 'UTC'")
            return await STORAGES[name].read_all(connection)

    return asyncio.run(read())


def folded(database: str, name: str) -> dict[tuple[str, str], Any]:
    """The state that the facts in the outbox come to."""
    states: dict[tuple[str, str], Any] = {}
    facts = query(
        database,
        f"SELECT tenant_id, aggregateid, type, payload, ce_time FROM outbox WHERE aggregatetype = '{name}' "  # noqa: S608
        "AND aggregate_version IS NOT NULL ORDER BY tenant_id, aggregateid, aggregate_version",
    )
    for tenant, aggregate_id, fact_type, payload, time in facts:
        short = fact_type.rpartition(".")[2]
        fact = AGGREGATES[name].facts[short].validate_python(CODEC.decode(short, payload))
        key = (tenant, aggregate_id)
        states[key] = AGGREGATES[name].evolve(states.get(key), fact, Context(*key, parse_rfc3339(time)))
    return states


# --- The pipeline


def test_an_intent_becomes_row_and_fact_under_the_derived_id(database: str) -> None:
    bus = Bus()
    process(database, [bus.append(check(), intent_id="h"), bus.append(snapshot(), intent_id="f")])
    assert outcomes(database) == [("h", "facts", None), ("f", "facts", None)]
    facts = query(database, "SELECT type, aggregateid, aggregate_version, topic, id FROM outbox ORDER BY type")
    assert [row[:4] for row in facts] == [
        ("sre.core.v1.FleetStateRecorded", stream_id("acme", "production", "prod-eu"), 1, "sre.fleetstate.facts.v1"),
        ("sre.core.v1.HealthCheckRecorded", healthcheck_id("acme", REF, "argocd"), 1, "sre.healthcheck.facts.v1"),
    ]
    assert query(database, "SELECT fleetstate_id FROM fleetstate") == [(facts[0][4],)]


def test_each_code_comes_out_of_the_pipeline_and_uses_up_the_id(database: str) -> None:
    bus = Bus()
    later = NOW + 6 * MINUTE
    batch = {
        "stored": (bus.append(check(), intent_id="stored"), "facts"),
        "again": (bus.append(check(), intent_id="again"), "no_change"),
        "stale": (bus.append(check(status="unhealthy", raw_status="Missing"), intent_id="stale"), "HEALTH_STALE"),
        "ref": (bus.append(check("-"), intent_id="ref"), "RESOURCE_REF_INVALID"),
        "source": (bus.append(check(source="rumour"), intent_id="source"), "HEALTH_SOURCE_INVALID"),
        "status": (bus.append(check(status="unhealthy"), intent_id="status"), "HEALTH_STATUS_INVALID"),
        "future": (bus.append(check(timestamp=later), intent_id="future"), "TIMESTAMP_IN_FUTURE"),
        "tenant": (bus.append(check(), intent_id="tenant", tenant="globex"), "facts"),
        "f-stored": (bus.append(snapshot(), intent_id="f-stored"), "facts"),
        "f-again": (bus.append(snapshot(), intent_id="f-again"), "no_change"),
        "f-stale": (bus.append(snapshot(4), intent_id="f-stale"), "FLEET_STALE"),
        "f-negative": (bus.append(snapshot(-1), intent_id="f-negative"), "FLEET_COUNT_NEGATIVE"),
        "f-sum": (bus.append(snapshot(total_applications=7), intent_id="f-sum"), "FLEET_COUNTS_MISMATCH"),
        "f-future": (bus.append(snapshot(timestamp=later), intent_id="f-future"), "TIMESTAMP_IN_FUTURE"),
        "f-many": (bus.append(snapshot(10**12), intent_id="f-many"), "SCHEMA_INVALID"),
    }
    wrong = Topic("sre.healthcheck.intents.v1", ends={0: 100}).append(check(), str(uuid4()), intent_id="subject")
    process(database, [record for record, _ in batch.values()] + [wrong])
    expected = {intent: what for intent, (_, what) in batch.items()} | {"subject": "SCHEMA_INVALID"}
    assert {intent: code or outcome for intent, outcome, code in outcomes(database)} == expected


def test_repeating_what_was_decided_changes_nothing(database: str) -> None:
    bus = Bus()
    first = [bus.append(check(), intent_id="h"), bus.append(snapshot(), intent_id="f")]
    process(database, first)
    process(database, [bus.append(check(timestamp=NOW + MINUTE)), bus.append(snapshot(timestamp=NOW + MINUTE))])
    before = everything(database)
    process(database, first)
    process(database, [bus.append(check(), intent_id="h"), bus.append(snapshot(), intent_id="f")])
    assert everything(database) == before


def test_every_attribute_is_stored_exactly(database: str) -> None:
    conditions = (
        HealthCondition(type="日本 🙂", status="unknown", reason="r" * 200, message="quotes ' \" \\ {a,b}\n\t" + "m" * 1980),
        HealthCondition(type="NULL", status="false"),
    )
    timestamp = datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
    process(
        database, [Bus().append(check(source="agent", timestamp=timestamp, raw_status="x" * 100, conditions=conditions * 25), time=NOW)]
    )
    (state,) = stored(database, "healthcheck").values()
    assert state == folded(database, "healthcheck")["acme", healthcheck_id("acme", REF, "agent")]
    assert state.latest.conditions == conditions * 25
    assert state.latest.timestamp == timestamp


@pytest.mark.parametrize("seed", range(4))
def test_folding_the_outbox_gives_the_rows_after_any_history(database: str, seed: int) -> None:
    random = Random(seed)  # noqa: S311 - a history, no secret
    bus = Bus()
    records: list[Record] = []
    for _ in range(120):
        time, timestamp = NOW - random.randint(0, 30) * MINUTE, NOW - random.randint(0, 30) * MINUTE
        raw_status, reading = random.choice([*READINGS.items()])
        conditions = (HealthCondition(type="ComparisonError", status="true", message=str(random.random())),) * random.randint(0, 2)
        ref = random.choice([REF, "prod-eu/-/ingress", "prod-us"])
        choices: list[Command] = [
            check(ref, timestamp=timestamp, status=reading.status, raw_status=raw_status, conditions=conditions),
            check(ref, timestamp=timestamp, source="probe", status=reading.status, raw_status=None),
            check(ref, timestamp=timestamp, status="healthy", raw_status=raw_status),
            snapshot(random.randint(-1, 9), random.choice(["prod-eu", "prod-us"]), timestamp=timestamp),
            snapshot(5, out_of_sync_count=random.randint(0, 12), timestamp=timestamp),
        ]
        records.append(bus.append(random.choice(choices), random.choice(["acme", "globex"]), time=time))
    while records:
        size = random.randint(1, 40)
        process(database, records[:size])
        if random.random() < 0.3:
            process(database, records[:size])
        records = records[size:]
    for name in NAMES.values():
        states = stored(database, name)
        assert states == folded(database, name)
        assert len(states) >= 4
    assert {outcome for _, outcome, _ in outcomes(database)} >= {"facts", "rejected"}
    for fleet in stored(database, "fleetstate").items():
        (tenant, aggregate_id), state = fleet
        assert state.fleetstate_id == uid("fact", tenant, "fleetstate", aggregate_id, str(state.version))


def test_an_import_of_argo_cd_is_taken_whole_and_a_retry_of_it_not_at_all(database: str) -> None:
    items = [
        {
            "kind": "Application",
            "metadata": {"name": f"app-{number}", "namespace": "argocd"},
            "spec": {"destination": {"namespace": "payments"}},
            "status": {} if health is None else {"health": {"status": health}, "sync": {"status": "OutOfSync"}},
        }
        for number, health in enumerate([*READINGS, None, "Fine"])
    ]
    applications, _ = read_applications(json.dumps({"items": items}).encode())
    bus = Bus()
    commands: list[Command] = [fleet_state(applications, "production", "prod-eu", NOW), *health_checks(applications, "prod-eu", NOW)]
    for _ in range(2):
        process(database, [bus.append(command, intent_id=subject_of(command, "acme")) for command in commands])
    assert [outcome for _, outcome, _ in outcomes(database)] == ["facts"] * 9
    (fleet,) = stored(database, "fleetstate").values()
    assert astuple(fleet.current)[3:] == (8, 1, 2, 2, 3, 7)


# --- The read side


@pytest.fixture
def service(database: str) -> Iterator[SreHealthQueryService]:
    with connect_reader(as_reader(database)) as connection:
        yield SreHealthQueryService(connection)


def clusters(page: Page[FleetStateView]) -> list[str]:
    return [fleet.cluster_id for fleet in page.items]


def code_of(call: Any) -> str:  # noqa: ANN401 - any call
    with pytest.raises(QueryError) as raised:
        call()
    return raised.value.code


def test_the_current_snapshot_is_read_exactly(database: str, service: SreHealthQueryService) -> None:
    service.connection.execute("SET TIME ZONE 'Asia/Kolkata'")
    bus = Bus()
    process(database, [bus.append(snapshot(timestamp=NOW - MINUTE), time=NOW), bus.append(snapshot(7), time=NOW - MINUTE)])
    aggregate_id = stream_id("acme", "production", "prod-eu")
    (fleet,) = service.get_current_fleet_state("acme", "production").items
    assert fleet == FleetStateView(
        tenant_id="acme",
        stream_id=aggregate_id,
        version=2,
        created_at=NOW,
        updated_at=NOW,
        fleetstate_id=uid("fact", "acme", "fleetstate", aggregate_id, "2"),
        environment_id="production",
        cluster_id="prod-eu",
        timestamp=NOW,
        total_applications=10,
        healthy_count=7,
        degraded_count=2,
        progressing_count=0,
        unknown_count=1,
        out_of_sync_count=1,
    )
    assert {time.utcoffset() for time in (fleet.created_at, fleet.updated_at, fleet.timestamp)} == {timedelta(0)}


def test_an_environment_has_its_own_clusters_and_one_can_be_asked_for(database: str, service: SreHealthQueryService) -> None:
    bus = Bus()
    places = [("production", "prod-eu"), ("production", "prod-us"), ("staging", "prod-eu")]
    process(
        database,
        [
            bus.append(snapshot(number, cluster, environment), time=NOW - MINUTE / (number + 1))
            for number, (environment, cluster) in enumerate(places)
        ],
    )
    assert clusters(service.get_current_fleet_state("acme", "production")) == ["prod-eu", "prod-us"]
    assert clusters(service.get_current_fleet_state("acme", "production", "prod-us")) == ["prod-us"]
    assert [fleet.healthy_count for fleet in service.get_current_fleet_state("acme", "staging", "prod-eu").items] == [2]
    for environment, cluster in [("staging", "prod-us"), ("", None), ("Production", None), ("production", ""), ("%", None)]:
        assert service.get_current_fleet_state("acme", environment, cluster) == Page((), None)


def test_another_tenants_clusters_are_not_seen(database: str, service: SreHealthQueryService) -> None:
    bus = Bus()
    process(database, [bus.append(snapshot(1)), bus.append(snapshot(2), "globex"), bus.append(snapshot(3, "theirs"), "globex")])
    assert [(fleet.tenant_id, fleet.healthy_count) for fleet in service.get_current_fleet_state("acme", "production").items] == [
        ("acme", 1)
    ]
    assert service.get_current_fleet_state("acme", "production", "theirs").items == ()
    assert service.get_current_fleet_state("initech", "production").items == ()
    assert len(service.get_current_fleet_state("globex", "production").items) == 2


def test_pages_hold_each_cluster_once_while_snapshots_come_in(database: str, service: SreHealthQueryService) -> None:
    bus = Bus()
    process(database, [bus.append(snapshot(1, f"c-{number}"), time=NOW - number // 3 * timedelta(seconds=1)) for number in range(20)])
    expected = clusters(service.get_current_fleet_state("acme", "production"))
    assert sorted(expected) == sorted(f"c-{number}" for number in range(20))
    seen: list[str] = []
    after = None
    for turn in range(20):
        page = service.get_current_fleet_state("acme", "production", page_size=3, after=after)
        seen += clusters(page)
        process(database, [bus.append(snapshot(2, f"c-{number}", timestamp=NOW + (turn + 1) * timedelta(seconds=1))) for number in (0, 19)])
        after = page.next
        if after is None:
            break
    assert seen == expected


def test_a_token_belongs_to_one_environment_of_one_tenant(database: str, service: SreHealthQueryService) -> None:
    bus = Bus()
    process(database, [bus.append(snapshot(), tenant) for tenant in ("acme", "globex")] + [bus.append(snapshot(environment="staging"))])
    token = service.get_current_fleet_state("acme", "production", page_size=1).next
    assert token is not None
    assert service.get_current_fleet_state("acme", "production", page_size=1, after=token) == Page((), None)
    assert code_of(lambda: service.get_current_fleet_state("globex", "production", after=token)) == "PAGE_TOKEN_INVALID"
    assert code_of(lambda: service.get_current_fleet_state("acme", "staging", after=token)) == "PAGE_TOKEN_INVALID"
    assert code_of(lambda: service.get_current_fleet_state("acme", "production", after=token + "0")) == "PAGE_TOKEN_INVALID"


def test_wrong_arguments_have_their_code(service: SreHealthQueryService) -> None:
    for tenant in ("", "a b", "acme\0", "\ud800"):
        assert code_of(lambda tenant=tenant: service.get_current_fleet_state(tenant, "production", page_size=0)) == "TENANT_REQUIRED"
    for size in (0, 201, 2**40):
        assert code_of(lambda size=size: service.get_current_fleet_state("acme", "production", page_size=size)) == "PAGE_SIZE_INVALID"


def test_the_function_reads_off_the_index_in_its_order(database: str, service: SreHealthQueryService) -> None:
    state = dict.fromkeys(COUNTS, 0) | {
        "tenant_id": "acme",
        "version": 1,
        "updated_at": NOW,
        "fleetstate_id": uuid4(),
        "environment_id": "production",
        "timestamp": NOW,
    }
    names = [*state, "stream_id", "cluster_id", "created_at"]
    columns, values = ", ".join(f'"{name}"' for name in names), ", ".join(f"%({name})s" for name in names)
    rows = [{**state, "stream_id": str(uuid4()), "cluster_id": f"c-{number}", "created_at": NOW + number * MINUTE} for number in range(500)]
    with psycopg.connect(database) as connection:
        connection.cursor().executemany(f"INSERT INTO fleetstate ({columns}) VALUES ({values})".encode(), rows)  # noqa: S608 - the names are this test's
        connection.execute("ANALYZE fleetstate")
    service.connection.execute("SET search_path = pg_catalog")
    read = rows_read(
        database, service.connection, "fleetstate", lambda: service.get_current_fleet_state("acme", "production", page_size=20)
    )
    assert read == {"fleetstate_by_creation": 20}
