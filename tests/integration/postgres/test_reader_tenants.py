"""Two tenants with the same ids: a reader gets nothing of another tenant's, in no answer, error, token or plan."""

from __future__ import annotations

import re
from contextlib import suppress
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier

from tests.support.operations import CALLS_IN_SQL, GETS, LISTS
from tests.support.reads import rows_read
from tests.support.two_tenants import ID, TENANTS, TwoTenants, secret_of, two_tenants
from worker.devstack.logins import PASSWORD, READER
from worker.postgres.queries import QueryError, connect_reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MISMATCH = "SRE04"
KEYS = {"incident": "incident_id", "alert": "alert_id", "runbook": "runbook_id", "slo": "slo_id", "fleetstate": "stream_id"}
INDEXES = [
    ("get_incident", "incident", "incident_pkey"),
    ("get_incident", "incident_timeline", "incident_timeline_pkey"),
    ("list_open_incidents", "incident", "incident_unresolved_by_creation"),
    ("get_alert", "alert", "alert_pkey"),
    ("list_active_alerts", "alert", "alert_firing"),
    ("get_runbook", "runbook", "runbook_pkey"),
    ("list_runbooks", "runbook", "runbook_by_creation"),
    ("get_slo", "slo", "slo_pkey"),
    ("list_slos", "slo", "slo_by_creation"),
    ("get_current_fleet_state of all clusters", "fleetstate", "fleetstate_by_creation"),
]
MULTIPLY = """
    INSERT INTO {table}
    SELECT (jsonb_populate_record({table}, jsonb_build_object('tenant_id', 'initech', {key}, 'id-' || number))).*
    FROM {table}, generate_series(1, 300) AS number
    WHERE tenant_id = 'acme'
"""


@pytest.fixture(scope="module")
def tenants(server: str, template: str) -> Iterator[TwoTenants]:
    """And a third, initech, which has much and which nobody was granted by its name."""
    with two_tenants(server, template) as made:
        with psycopg.connect(made.superuser) as connection:
            for table, key in KEYS.items():
                connection.execute(SQL(MULTIPLY).format(table=Identifier(table), key=key))
            connection.execute("ANALYZE")
        yield made


@pytest.fixture
def acme(tenants: TwoTenants) -> Iterator[psycopg.Connection[Any]]:
    """Of a login that may read acme."""
    with connect_reader(tenants.as_reader("acme")) as connection:
        yield connection


@pytest.fixture
def everything(tenants: TwoTenants) -> Iterator[psycopg.Connection[Any]]:
    """Of a login that may read every tenant."""
    with connect_reader(tenants.as_login(READER)) as connection:
        yield connection


@pytest.fixture
def role(tenants: TwoTenants) -> Iterator[str]:
    """A login that calls, and may read no tenant yet."""
    name = f"nobody_{uuid4().hex}"
    tenants.execute(SQL("CREATE ROLE {} LOGIN PASSWORD 'dev' IN ROLE sre_reader").format(Identifier(name)))
    yield name
    tenants.execute(SQL("DELETE FROM sre_query.reader_tenant WHERE reader = {}::regrole").format(name))
    tenants.execute(SQL("DROP ROLE {}").format(Identifier(name)))


def call(connection: psycopg.Connection[Any], operation: str, tenant: str) -> list[Any]:
    return connection.execute(b"SELECT * FROM " + CALLS_IN_SQL[operation], {"tenant": tenant, "id": ID}).fetchall()


def refusal(read: Callable[..., object], *arguments: object) -> psycopg.Error:
    with pytest.raises(psycopg.Error) as raised:
        read(*arguments)
    return raised.value


def grant(tenants: TwoTenants, tenant: str, role: str) -> None:
    tenants.execute(SQL("INSERT INTO sre_query.reader_tenant VALUES ({}, {}::regrole)").format(tenant, role))


def reads(tenants: TwoTenants, role: str, tenant: str = "acme") -> bool:
    """Whether this login may read this tenant, by every operation alike."""
    with psycopg.connect(tenants.as_login(role), autocommit=True) as connection:
        states = {state_of(connection, operation, tenant) for operation in CALLS_IN_SQL}
    assert states in ({None}, {MISMATCH})
    return states == {None}


def state_of(connection: psycopg.Connection[Any], operation: str, tenant: str) -> str | None:
    """The error's, or None."""
    try:
        call(connection, operation, tenant)
    except psycopg.Error as error:
        return error.sqlstate
    return None


# --- Answers


@pytest.mark.parametrize("tenant", TENANTS)
@pytest.mark.parametrize("operation", CALLS_IN_SQL)
def test_an_answer_has_the_tenants_own_and_nothing_of_the_other(
    tenants: TwoTenants, everything: psycopg.Connection[Any], operation: str, tenant: str
) -> None:
    (other,) = set(TENANTS) - {tenant}
    for connection in (everything, psycopg.connect(tenants.as_reader(tenant), autocommit=True)):
        rows = call(connection, operation, tenant)
        connection.close()
        assert [row[:3] for row in rows] == [(tenant, ID, 7)]
        assert (secret_of(tenant) in repr(rows)) is (operation != "get_current_fleet_state")
        assert other not in repr(rows)


@pytest.mark.parametrize("operation", [*GETS, *LISTS])
def test_a_service_answers_from_one_tenant(everything: psycopg.Connection[Any], operation: str) -> None:
    answers = []
    for tenant in TENANTS:
        answer = GETS[operation](everything, tenant) if operation in GETS else LISTS[operation](everything, tenant, 50, None)
        assert tenant in repr(answer)
        answers.append(repr(answer))
    assert "globex" not in answers[0]
    assert "acme" not in answers[1]


@pytest.mark.parametrize("operation", CALLS_IN_SQL)
def test_a_tenant_that_is_not_granted_is_refused_as_one_that_does_not_exist(acme: psycopg.Connection[Any], operation: str) -> None:
    there, not_there = (refusal(call, acme, operation, tenant) for tenant in ("globex", "nobody"))
    assert there.sqlstate == MISMATCH
    assert str(there).startswith("TENANT_MISMATCH: ")
    assert (there.sqlstate, str(there)) == (not_there.sqlstate, str(not_there))


@pytest.mark.parametrize("operation", [*GETS, *LISTS])
def test_a_service_raises_the_code(acme: psycopg.Connection[Any], operation: str) -> None:
    with pytest.raises(QueryError) as raised:
        _ = GETS[operation](acme, "globex") if operation in GETS else LISTS[operation](acme, "globex", 50, None)
    assert raised.value.code == "TENANT_MISMATCH"


@pytest.mark.parametrize(("operation", "table", "index"), INDEXES)
def test_an_operation_takes_what_it_gives_off_an_index(
    tenants: TwoTenants, everything: psycopg.Connection[Any], operation: str, table: str, index: str
) -> None:
    if operation in GETS:
        assert rows_read(tenants.superuser, everything, table, lambda: GETS[operation](everything, "acme")) == {index: 1}
        return
    token = LISTS[operation](everything, "initech", 1, None).next
    assert rows_read(tenants.superuser, everything, table, lambda: LISTS[operation](everything, "initech", 20, token)) == {index: 20}


# --- One tenant in a transaction


@pytest.mark.parametrize("operation", CALLS_IN_SQL)
def test_a_transaction_reads_one_tenant(everything: psycopg.Connection[Any], operation: str) -> None:
    with everything.transaction():
        call(everything, "get_slo", "acme")
        assert call(everything, operation, "acme") != []
        with everything.transaction(force_rollback=True):
            assert refusal(call, everything, operation, "globex").sqlstate == MISMATCH
    assert call(everything, operation, "globex") != []


def test_a_statement_reads_one_tenant(everything: psycopg.Connection[Any]) -> None:
    both = "SELECT * FROM sre_query.list_slos('acme') UNION ALL SELECT * FROM sre_query.list_slos('globex')"
    assert refusal(everything.execute, both).sqlstate == MISMATCH


@pytest.mark.parametrize("scope", ["SET", "SET LOCAL"])
def test_a_reader_that_sets_the_variable_itself_gets_no_other_tenant(acme: psycopg.Connection[Any], scope: str) -> None:
    with acme.transaction(force_rollback=True):
        acme.execute(f"{scope} sre.tenant = 'globex'".encode())
        for tenant in TENANTS:
            with acme.transaction(force_rollback=True):
                assert refusal(call, acme, "list_slos", tenant).sqlstate == MISMATCH


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT (sre_query.list_slos('acme', 200)).tenant_id, set_config('sre.tenant', 'globex', true) FROM generate_series(1, 3)",
        "SELECT set_config('sre.tenant', 'globex', true), (sre_query.list_slos('acme', 200)).tenant_id FROM generate_series(1, 3)",
        "SELECT tenant_id, set_config('sre.tenant', 'globex', true) FROM generate_series(1, 3), LATERAL sre_query.list_slos('acme', 200)",
    ],
)
def test_a_variable_that_changes_while_rows_are_read_lets_no_other_row_in(acme: psycopg.Connection[Any], statement: bytes) -> None:
    with suppress(psycopg.Error):  # refused, or the tenant's own rows and no other: either is right
        assert {row["tenant_id"] for row in acme.cursor(row_factory=dict_row).execute(statement)} <= {"acme"}


# --- Grants


def test_nobody_reads_without_a_grant_and_nobody_after_it_was_taken_back(tenants: TwoTenants, role: str) -> None:
    assert not reads(tenants, role)
    grant(tenants, "acme", role)
    assert (reads(tenants, role), reads(tenants, role, "globex")) == (True, False)
    tenants.execute(SQL("DELETE FROM sre_query.reader_tenant WHERE reader = {}::regrole").format(role))
    assert not reads(tenants, role)


def test_a_grant_to_a_group_is_one_to_those_who_have_its_rights(tenants: TwoTenants, role: str) -> None:
    group = f"group_{role}"
    tenants.execute(SQL("CREATE ROLE {} NOLOGIN").format(Identifier(group)))
    grant(tenants, "acme", group)
    try:
        assert not reads(tenants, role)
        tenants.execute(SQL("GRANT {} TO {} WITH INHERIT FALSE").format(Identifier(group), Identifier(role)))
        assert not reads(tenants, role)
        tenants.execute(SQL("GRANT {} TO {} WITH INHERIT TRUE").format(Identifier(group), Identifier(role)))
        assert (reads(tenants, role), reads(tenants, role, "globex")) == (True, False)
    finally:
        tenants.execute(SQL("DELETE FROM sre_query.reader_tenant WHERE reader = {}::regrole").format(group))
        tenants.execute(SQL("DROP ROLE {}").format(Identifier(group)))


def test_an_asterisk_grants_every_tenant_one_in_a_transaction(tenants: TwoTenants, role: str) -> None:
    grant(tenants, "*", role)
    assert [reads(tenants, role, tenant) for tenant in (*TENANTS, "nobody-yet")] == [True, True, True]


def test_a_superuser_who_is_a_member_of_every_role_was_granted_nothing_by_that(tenants: TwoTenants) -> None:
    with psycopg.connect(tenants.superuser, autocommit=True) as connection:
        assert {refusal(call, connection, name, "acme").sqlstate for name in CALLS_IN_SQL} == {MISMATCH}


def test_who_logged_in_counts_and_not_the_role_that_was_set(tenants: TwoTenants, role: str) -> None:
    other = tenants.readers["acme"]
    tenants.execute(SQL("GRANT {} TO {} WITH INHERIT FALSE, SET TRUE").format(Identifier(other), Identifier(role)))
    with psycopg.connect(tenants.as_login(role), autocommit=True) as connection:
        connection.execute(SQL("SET ROLE {}").format(Identifier(other)))
        assert refusal(call, connection, "list_slos", "acme").sqlstate == MISMATCH


def test_a_name_that_is_used_again_inherits_no_grant(tenants: TwoTenants, role: str) -> None:
    grant(tenants, "acme", role)
    tenants.execute(SQL("DROP ROLE {}").format(Identifier(role)))
    tenants.execute(SQL("CREATE ROLE {} LOGIN PASSWORD 'dev' IN ROLE sre_reader").format(Identifier(role)))
    assert not reads(tenants, role)


@pytest.mark.parametrize("tenant", ["", "**", "acme ", "acme\n", "%", "a" * 64])
def test_what_is_no_tenant_can_not_be_granted(tenants: TwoTenants, role: str, tenant: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        grant(tenants, tenant, role)


def test_the_owner_grants(tenants: TwoTenants, role: str) -> None:
    with psycopg.connect(tenants.superuser) as connection:
        connection.execute("SET ROLE sre_owner")
        connection.execute(SQL("INSERT INTO sre_query.reader_tenant VALUES ('globex', {}::regrole)").format(role))
    assert reads(tenants, role, "globex")


def test_the_statements_of_the_page_grant_and_take_back(tenants: TwoTenants) -> None:
    page = (Path(__file__).parents[3] / "docs" / "queries.md").read_text(encoding="utf-8").split("## Who may read what")[1]
    create, insert, delete = page.split("```sql\n")[1].split("```")[0].splitlines()
    try:
        with psycopg.connect(tenants.superuser, autocommit=True) as connection:
            connection.execute(create.replace("change-me", PASSWORD).encode())
            connection.execute("SET ROLE sre_owner")
            connection.execute(insert.encode())
            assert [reads(tenants, "grafana", tenant) for tenant in (*TENANTS, "initech")] == [True, True, False]
            connection.execute(delete.encode())
            assert [reads(tenants, "grafana", tenant) for tenant in TENANTS] == [True, False]
    finally:
        tenants.execute(SQL("DROP ROLE IF EXISTS {}").format(Identifier("grafana")))


@pytest.mark.parametrize("group", ["sre_reader", "sre_writer", "sre_relay"])
def test_nobody_else_sees_or_writes_grants(tenants: TwoTenants, group: str) -> None:
    statements = (
        "SELECT * FROM sre_query.reader_tenant",
        "INSERT INTO sre_query.reader_tenant VALUES ('globex', 'sre_reader')",
        "UPDATE sre_query.reader_tenant SET tenant = '*'",
        "DELETE FROM sre_query.reader_tenant",
    )
    with psycopg.connect(tenants.superuser, autocommit=True) as connection:
        connection.execute(SQL("SET ROLE {}").format(Identifier(group)))
        for statement in statements:
            assert refusal(connection.execute, statement).sqlstate == "42501"


# --- Side channels


def test_a_token_belongs_to_one_list_of_one_tenant(everything: psycopg.Connection[Any]) -> None:
    tokens = {(tenant, name): page(everything, tenant, 1, None).next for tenant in TENANTS for name, page in LISTS.items()}
    assert None not in tokens.values()
    for (tenant, name), token in tokens.items():
        assert LISTS[name](everything, tenant, 1, token).items == ()
    for (tenant, name), (other_tenant, other) in permutations(tokens, 2):
        with pytest.raises(QueryError) as raised:
            LISTS[name](everything, tenant, 1, tokens[other_tenant, other])
        assert raised.value.code == "PAGE_TOKEN_INVALID", (tenant, name, other_tenant, other)


def planned_rows(reader: str, operation: str, tenant: str) -> list[str]:
    """Every estimate that PostgreSQL would tell whoever asks it to log its plans to them."""
    heard: list[str] = []
    with psycopg.connect(reader, autocommit=True, options="-c debug_print_plan=on -c client_min_messages=log") as connection:
        connection.add_notice_handler(lambda notice: heard.append(notice.message_detail or ""))
        with pytest.raises(psycopg.Error):
            call(connection, operation, tenant)
    return [rows for plan in heard for rows in re.findall(r"plan_rows (\d+)", plan)]


@pytest.mark.parametrize("operation", CALLS_IN_SQL)
def test_no_plan_tells_how_much_a_tenant_has_that_is_not_granted(tenants: TwoTenants, operation: str) -> None:
    estimates = [planned_rows(tenants.as_reader("acme"), operation, tenant) for tenant in ("initech", "nobody")]
    assert estimates[0] == estimates[1] != []


def test_what_explain_shows_is_the_call(acme: psycopg.Connection[Any]) -> None:
    for tenant in ("acme", "globex", "nobody"):
        plan = acme.execute(b"EXPLAIN (VERBOSE, COSTS OFF) SELECT * FROM " + CALLS_IN_SQL["list_slos"], {"tenant": tenant}).fetchall()
        assert [line for (line,) in plan if not line.strip().startswith(("Output", "Function Call"))] == [
            "Function Scan on sre_query.list_slos"
        ]
