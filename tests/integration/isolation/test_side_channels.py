"""What another tenant's rows could be guessed by: keys that are taken, references that hold, errors that tell, names that are hijacked."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from tests.integration.isolation.parties import NOBODYS_ID, OWN, SECRET, VICTIM, VICTIMS_ID, Party, session
from tests.support.pipelines import facts, outcomes, process
from tests.support.records import CODEC, Topic, create
from tests.support.roles import as_writer
from tests.support.two_tenants import ID
from worker.devstack.logins import WRITER
from worker.postgres.connection import UnitOpener
from worker.postgres.storage import Change
from worker.postgres.storages import STORAGES

if TYPE_CHECKING:
    from tests.support.two_tenants import TwoTenants

KEYS = {
    "alert": "alert_id", "fleetstate": "stream_id", "healthcheck": "healthcheck_id", "incident": "incident_id", "runbook": "runbook_id",
    "slo": "slo_id",
}  # fmt: skip
CHILDREN = {"incident_timeline": "incident_id", "runbook_execution": "runbook_id", "sli_ledger": "slo_id"}
WRITERS = Party("writer", WRITER, {"sre.tenants": f"{{{OWN}}}"})


def answer(connection: psycopg.Connection[Any], statement: LiteralString, table: str, **columns: str) -> tuple[str, str]:
    """How inserting a copy of an own row, with other columns, ends; ids that were given are cut out."""
    row = SQL("SELECT (jsonb_populate_record(found, %(columns)s::jsonb)).* FROM {} AS found LIMIT 1").format(Identifier(table))
    inserted = SQL("INSERT INTO {} ").format(Identifier(table)) + row + SQL(statement)
    try:
        with connection.transaction(force_rollback=True):
            cursor = connection.execute(inserted, {"columns": psycopg.types.json.Jsonb(columns)})
            return "done", str(cursor.rowcount)
    except psycopg.Error as error:
        told = str(error)
        for value in columns.values():
            told = told.replace(value, "...")
        return str(error.sqlstate), told


@pytest.mark.parametrize(("table", "key"), KEYS.items())
@pytest.mark.parametrize("ending", ["", " ON CONFLICT DO NOTHING"])
def test_a_key_that_another_tenant_has_is_not_taken(made: TwoTenants, table: str, key: str, ending: LiteralString) -> None:
    with session(made, WRITERS) as connection:
        taken, free = (answer(connection, ending, table, **{key: value}) for value in (VICTIMS_ID, NOBODYS_ID))
        assert taken == free == ("done", "1")
        mine = answer(connection, ending, table, **{key: ID})
        assert mine != free, "a key of its own is: the same statement tells"


@pytest.mark.parametrize(("table", "key"), KEYS.items())
@pytest.mark.parametrize("ending", ["", " ON CONFLICT DO NOTHING"])
def test_a_row_in_another_tenants_name_is_refused_whether_or_not_its_key_is_taken(
    made: TwoTenants, table: str, key: str, ending: LiteralString
) -> None:
    with session(made, WRITERS) as connection:
        taken, free = (answer(connection, ending, table, tenant_id=VICTIM, **{key: value}) for value in (VICTIMS_ID, NOBODYS_ID))
        assert taken == free
        assert taken[0] == "42501"


@pytest.mark.parametrize(("table", "key"), CHILDREN.items())
def test_a_reference_to_what_another_tenant_has_ends_as_one_to_nothing(made: TwoTenants, table: str, key: str) -> None:
    """The row of the timeline is made here: a writer may not read one to copy it."""
    party = WRITERS if table != "incident_timeline" else Party("superuser", "postgres")
    with session(made, party) as connection:
        referring = {"tenant_id": OWN}
        to_victims, to_nobodys = (answer(connection, "", table, **referring, **{key: value}) for value in (VICTIMS_ID, NOBODYS_ID))
        assert to_victims == to_nobodys
        assert to_victims[0] == "23503"
        assert SECRET not in to_victims[1]
        assert answer(connection, " ON CONFLICT DO NOTHING", table, **referring, **{key: ID})[0] == "done"


def test_a_batch_writes_no_row_of_a_tenant_that_it_did_not_name(database: str) -> None:
    topic = Topic("sre.slo.intents.v1")
    process(database, [topic.append(create(), "checkout")])

    async def save_for_another() -> None:
        opener = UnitOpener(as_writer(database), STORAGES)
        async with opener() as unit:
            found = await unit.find({"acme"}, topic.name, [0], {}, {"slo": {("acme", "checkout"): []}})
            state = found.states["slo", "acme", "checkout"]
            await unit.save(topic.name, [], [], {"slo": {("globex", "checkout"): Change(None, state)}}, {})

    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        asyncio.run(save_for_another())

    async def find_of_another() -> dict[Any, Any]:
        opener = UnitOpener(as_writer(database), STORAGES)
        async with opener() as unit:
            return (await unit.find({"globex"}, topic.name, [0], {}, {"slo": {("acme", "checkout"): []}})).states

    assert asyncio.run(find_of_another()) == {}


def test_a_rejection_for_a_fault_tells_nothing_of_the_database(database: str) -> None:
    """PostgreSQL's error has the failing row, and names another tenant's batch."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("ALTER TABLE slo ADD CONSTRAINT fault CHECK (tenant_id <> 'globex')")
    topic = Topic("sre.slo.intents.v1")
    secret = replace(create(), description=SECRET)
    process(database, [topic.append(secret, "checkout"), topic.append(secret, "checkout", tenant="globex")])
    assert sorted(outcomes(database).values()) == ["INTERNAL_ERROR", "facts"]
    assert len(facts(database)) == 1
    with psycopg.connect(database) as connection:
        ((tenant, payload),) = connection.execute("SELECT tenant_id, payload FROM outbox WHERE aggregate_version IS NULL").fetchall()
    rejection = CODEC.decode("IntentRejected", payload)
    assert (tenant, rejection["code"]) == ("globex", "INTERNAL_ERROR")
    told = f"{rejection['message']} {rejection['violations']}"
    assert not any(word in told for word in ("constraint", "slo", "acme", SECRET, "Failing row"))


@pytest.mark.parametrize("path", ["public, pg_temp", "pg_temp, public", "pg_temp, pg_catalog"])
def test_a_temporary_table_is_not_taken_for_the_real_one(made: TwoTenants, path: str) -> None:
    """For a writer that an administrator has given TEMPORARY: the functions of SECURITY DEFINER look into public first."""
    with psycopg.connect(made.superuser) as connection:
        connection.execute(SQL("GRANT TEMPORARY ON DATABASE {} TO sre_writer").format(Identifier(connection.info.dbname)))
        connection.execute("SET LOCAL ROLE sre_writer")
        connection.execute(
            "CREATE TEMPORARY TABLE runbook_execution AS SELECT 'fake' AS tenant_id, 'fake' AS runbook_id, 'running' AS status,"
            " NULL::timestamptz AS approval_deadline, '-infinity'::timestamptz AS run_deadline"
        )
        connection.execute("CREATE TEMPORARY TABLE pg_inherits (inhparent oid)")
        connection.execute(f"SET LOCAL search_path = {path}".encode())
        found = connection.execute("SELECT tenant_id FROM public.overdue_runbooks('infinity')").fetchall()
        assert sorted(found) == [(OWN,), (VICTIM,)]
        assert connection.execute("SELECT count(*) > 5 FROM public.missing_partitions('outbox', 7, 40)").fetchone() == (True,)
        connection.rollback()


@pytest.mark.parametrize(
    "call",
    [
        "drop_expired_partition('inbox', 'slo', now(), 1, 'none')",
        "drop_expired_partition('inbox', 'inbox_default', now(), 1, 'none')",
        "drop_expired_partition('inbox', 'inbox_default; DROP TABLE slo', now(), 1, 'none')",
        "drop_expired_partition('slo', 'slo', 'infinity', 1, 'none')",
        "delete_expired_rows('slo', now(), 1, 'none', 1000)",
        "delete_expired_rows('inbox', 'infinity', 1, 'none', 1000)",
        "make_partition('slo', '2030-01-01')",
        "make_partition('outbox; DROP TABLE slo', '2030-01-01')",
    ],
)
def test_maintenance_does_away_with_nothing_that_is_in_use(made: TwoTenants, call: str) -> None:
    counted = "SELECT (SELECT count(*) FROM slo), (SELECT count(*) FROM inbox), (SELECT count(*) FROM outbox)"
    with psycopg.connect(made.superuser) as connection:
        before = connection.execute(counted).fetchone()
        connection.execute("SET LOCAL ROLE sre_writer")
        with suppress(psycopg.errors.InvalidParameterValue), connection.transaction():
            connection.execute(f"SELECT {call}".encode())
        connection.execute("RESET ROLE")
        assert connection.execute(counted).fetchone() == before
        connection.rollback()
