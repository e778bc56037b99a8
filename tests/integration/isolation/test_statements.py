"""Every statement of sql/queries, in the role that runs it, for another tenant than its own: it sees, changes and adds nothing.

A statement that is added is here by itself; where it has a parameter that nothing here has a value for, the test says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier
from psycopg.types.json import Jsonb

from tests.integration.isolation.parties import OWN, SECRET, VICTIM, Party, begin, session
from tests.support.two_tenants import CLUSTER, ENVIRONMENT, ID, TwoTenants
from worker.devstack.logins import RELAY, WRITER
from worker.package_data import SQL as SQL_FILES
from worker.postgres.named_sql import statements

if TYPE_CHECKING:
    from collections.abc import Mapping

ALL = [(path.stem, name) for path in sorted((SQL_FILES / "queries").glob("*.sql")) for name in statements(path.stem)]
STATES: Final = {"alert", "fleetstate", "healthcheck", "incident", "runbook", "slo"}
# What is not a batch's or a reader's, and sees all tenants by its job: for the writer and the readers it is closed.
ACROSS_TENANTS: Final = {
    *((file, name) for file, name in ALL if file in {"audit", "grants", "hand_over", "migrate", "rebuild", "relay"}),
    *((file, name) for file, name in ALL if file in STATES and name.startswith(("all_", "whole_"))),
    *(("keys", name) for name in ("add_key", "list_keys", "revoke_key")),
}
# What the worker runs that names no tenant, or names to the database which tenants are its own.
OF_NO_TENANT: Final = {
    *((file, name) for file, name in ALL if file in {"doctor", "maintenance", "role"}),
    ("inbox", "see_tenants"),
    ("inbox", "lock_intents"),
    ("inbox", "lock_positions"),
    ("inbox", "advance_positions"),
    ("keys", "keys_of"),
    ("keys", "keys"),  # public keys, by which the worker learns whose record it has
    ("runbook", "overdue"),  # ids alone: what a sweep asks for, it asks as the tenant
}
SCOPED: Final = [one for one in ALL if one not in ACROSS_TENANTS | OF_NO_TENANT]
FRESH: Final = "22222222-1111-4222-8333-444444444444"
_PARAMETER: Final = re.compile(r"%\((\w+)\)[sbt]")
_ARRAYS: Final = re.compile(r"%\((\w+)\)[sbt]::(?:\w+)\[\]")


@dataclass(frozen=True, slots=True)
class Found:
    rows: list[tuple[Any, ...]]
    affected: int


def run(connection: psycopg.Connection[Any], file: str, name: str, values: Mapping[str, object]) -> Found:
    cursor = connection.execute(statements(file)[name], values)
    rows = cursor.fetchall() if cursor.description is not None else []
    return Found(rows, max(cursor.rowcount, 0))


def run_or_refused(connection: psycopg.Connection[Any], file: str, name: str, values: Mapping[str, object]) -> Found | psycopg.Error:
    try:
        return run(connection, file, name, values)
    except psycopg.Error as error:
        return error


def table_of(statement: str) -> str | None:
    match = re.search(r"^(?:INSERT INTO|UPDATE|DELETE FROM) (\w+)", statement, re.MULTILINE)
    return match[1] if match else None


def values_for(made: TwoTenants, file: str, name: str, tenant: str) -> dict[str, object]:
    """What the statement is given to work on the tenant's rows; columns have the values of the row that is there."""
    text = statements(file)[name].decode()
    row = row_of(made, table_of(text), tenant)
    execution, entry = row_of(made, "runbook_execution", tenant), row_of(made, "sli_ledger", tenant)
    arrays = set(_ARRAYS.findall(text))
    named: dict[str, object] = {
        **row,
        "tenant": tenant,
        "tenant_ids": tenant,
        "named_tenant_ids": tenant,
        "ids": ID,
        "runbook_ids": ID,
        "named_runbook_ids": ID,
        "slo_ids": ID,
        "execution_ids": execution["execution_id"],
        "hours": entry["hour"],
        "intent_keys": row_of(made, "inbox", tenant)["intent_key"],
        "environment_id": ENVIRONMENT,
        "cluster_id": CLUSTER,
        "page_size": 200,
        "after": None,
        "min_version": None,
    }
    if "incident_id" not in row:
        named["incident_id"] = ID
    if file == "inbox" and "fact_ids" in row:
        named["fact_ids"] = "{}"
    for key in ("alert_id", "runbook_id", "slo_id"):
        named.setdefault(key, ID)
    missing = sorted(set(_PARAMETER.findall(text)) - set(named))
    assert not missing, f"sql/queries/{file}.sql, {name}: this test needs a value for {missing}, or to know that it names no tenant"
    return {key: [named[key]] if key in arrays else named[key] for key in _PARAMETER.findall(text)}


def row_of(made: TwoTenants, table: str | None, tenant: str) -> dict[str, Any]:
    if table is None:
        return {}
    with psycopg.connect(made.superuser, row_factory=dict_row) as connection:
        statement = SQL("SELECT * FROM {} AS found WHERE tenant_id = %s AND strpos(found::text, %s) > 0 LIMIT 1").format(Identifier(table))
        row = (
            connection.execute(statement, [tenant, ID]).fetchone()
            or connection.execute(SQL("SELECT * FROM {} WHERE tenant_id = %s LIMIT 1").format(Identifier(table)), [tenant]).fetchone()
        )
    assert row is not None, f"{tenant} has no row of {table}"
    return {key: Jsonb(value) if isinstance(value, (dict, list)) and key != "fact_ids" else value for key, value in row.items()}


def party_of(made: TwoTenants, file: str, tenant: str) -> Party:
    if file.endswith("_query"):
        return Party("reader", made.readers[tenant])
    return Party("writer", WRITER, {"sre.tenants": f"{{{tenant}}}"})


@pytest.mark.parametrize(("file", "name"), SCOPED)
def test_for_another_tenant_a_statement_does_nothing(made: TwoTenants, file: str, name: str) -> None:
    values = values_for(made, file, name, VICTIM)
    with session(made, party_of(made, file, OWN)) as connection:
        found = run_or_refused(connection, file, name, values)
    assert found == Found([], 0) or (isinstance(found, psycopg.Error) and is_refusal(found))
    assert SECRET not in str(found)


@pytest.mark.parametrize(("file", "name"), SCOPED)
def test_for_its_own_tenant_the_same_statement_works(made: TwoTenants, file: str, name: str) -> None:
    """Where this fails, the test above has shown nothing."""
    text = statements(file)[name].decode()
    values = values_for(made, file, name, VICTIM)
    with session(made, party_of(made, file, VICTIM)) as connection:
        if "INSERT INTO" in text and "ON CONFLICT" not in text:
            values |= another_key(values)
        assert run(connection, file, name, values).affected >= 1


def another_key(values: Mapping[str, object]) -> dict[str, object]:
    """The row under an id that is not taken; one that belongs to another row stays with it."""
    for key, fresh in (("position", 2), ("execution_id", FRESH), ("intent_key", FRESH), ("id", FRESH)):
        if key in values:
            return {key: [fresh]}
    keys = [key for key in ("alert_id", "healthcheck_id", "stream_id", "incident_id", "runbook_id", "slo_id") if key in values]
    return {keys[0]: [FRESH]}


def is_refusal(error: psycopg.Error) -> bool:
    """By privilege, by row policy, or by the query functions' own code."""
    return error.sqlstate in {"42501", "SRE04"}


@pytest.mark.parametrize(("file", "name"), sorted(ACROSS_TENANTS))
@pytest.mark.parametrize("role", ["reader", "writer"])
def test_what_sees_all_tenants_is_closed_to_who_has_one(made: TwoTenants, file: str, name: str, role: str) -> None:
    text = statements(file)[name].decode()
    party = party_of(made, "slo_query" if role == "reader" else "slo", OWN)
    values = {key: filler(key) for key in _PARAMETER.findall(text)}
    with session(made, party) as connection:
        found = run_or_refused(connection, file, name, values)
    assert SECRET not in str(found)
    assert isinstance(found, psycopg.Error) or VICTIM not in str(found)


def filler(name: str) -> object:
    given = {"days": 1, "days_ahead": 1, "number": 1, "public_key": b"k" * 32, "intents": ["IngestAlertRequested"], "reader": "sre_reader"}
    return None if name in {"valid_from", "valid_until", "actor"} else given.get(name, VICTIM)


@pytest.mark.parametrize(("file", "name"), [one for one in sorted(ACROSS_TENANTS) if one[0] in STATES | {"audit"}])
def test_the_relay_sees_all_tenants_that_the_others_do_not(made: TwoTenants, file: str, name: str) -> None:
    with session(made, Party("relay", RELAY)) as connection:
        assert run(connection, file, name, {}).affected >= 2


def test_what_the_worker_runs_beside_its_batch_shows_nothing_of_a_tenant(made: TwoTenants) -> None:
    at = datetime.fromisoformat("2100-01-01T00:00:00Z")
    partitions = {"parent": "inbox", "first": at.date(), "part": "inbox_default", "as_of": at, "retention_days": 30, "days_ahead": 7}
    batch = {"tenants": [OWN], "locks": [1], "topic": SECRET, "partitions": [0], "next_offsets": [1], "key_ids": ["0" * 16]}
    doctor = {"publication": "sre_outbox", "key_id": "0" * 16}
    named = {**partitions, **batch, **doctor, "slot": "none", "at_most": 10, "at": at}
    for file, name in sorted(OF_NO_TENANT):
        with session(made, party_of(made, "slo", OWN)) as connection:
            found = run(connection, file, name, named)
            assert SECRET not in repr(found.rows), (file, name)
            assert VICTIM not in repr(found.rows) or (file, name) == ("runbook", "overdue"), (file, name)


def test_the_two_lists_of_exceptions_are_of_statements_that_there_are() -> None:
    assert set(ALL) >= ACROSS_TENANTS | OF_NO_TENANT
    assert not ACROSS_TENANTS & OF_NO_TENANT


def test_tenants_that_a_batch_names_are_its_own_whatever_they_are_called(made: TwoTenants) -> None:
    """The array is made by the driver and the database: no name splits into two."""
    with session(made, Party("writer", WRITER)) as connection:
        for tenants, seen in (([VICTIM], 2), ([f"{OWN},{VICTIM}"], 0), ([f'"{VICTIM}"'], 0), ([f"x}},{{{VICTIM}"], 0), ([], 0)):
            connection.execute(statements("inbox")["see_tenants"], {"tenants": tenants})
            assert connection.execute("SELECT count(*) FROM slo").fetchone() == (seen,), tenants
        begin(connection, {})
