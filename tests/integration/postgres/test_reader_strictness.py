"""What a reader can do is call nine functions: everything else in the database is tried, and refused or silent about every tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from tests.support.operations import CALLS_IN_SQL
from tests.support.two_tenants import ID, TENANTS, TwoTenants, secret_of, two_tenants
from worker.postgres.queries import connect_reader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Connection = psycopg.Connection[Any]

OURS = "SELECT oid FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$)'"
RELATIONS = "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND {} ORDER BY 1"


@pytest.fixture(scope="module")
def tenants(server: str, template: str) -> Iterator[TwoTenants]:
    with two_tenants(server, template) as made:
        yield made


@pytest.fixture
def reader(tenants: TwoTenants) -> Iterator[Connection]:
    """Of a login that may read acme."""
    with psycopg.connect(tenants.as_reader("acme"), autocommit=True) as connection:
        yield connection


@pytest.fixture
def relations(tenants: TwoTenants) -> list[str]:
    return listed(tenants, RELATIONS.format(f"relnamespace IN ({OURS})"))


def listed(tenants: TwoTenants, query: str) -> list[str]:
    with psycopg.connect(tenants.superuser) as connection:
        return [str(value) for (value,) in connection.execute(query.encode())]


def refused(connection: Connection, statement: str) -> bool:
    """Whether for want of a right; undone, if not."""
    with connection.transaction(force_rollback=True):
        try:
            connection.execute(statement.encode())
        except psycopg.errors.InsufficientPrivilege:
            return True
        return False


def heard(connection: Connection, statement: str) -> str:
    """All that the statement answers, error included."""
    with connection.transaction(force_rollback=True):
        try:
            cursor = connection.execute(statement.encode())
            return repr(cursor.fetchall()) if cursor.description else ""
        except psycopg.Error as error:
            return f"{error} {error.diag.message_detail} {error.diag.context}"


# --- Rights


def test_it_may_call_the_nine_operations_and_no_other_function(tenants: TwoTenants) -> None:
    may_call = "SELECT oid::regprocedure FROM pg_proc WHERE pronamespace IN ({}) AND has_function_privilege('{}', oid, 'EXECUTE')"
    for role in ("sre_reader", tenants.readers["acme"]):
        functions = listed(tenants, may_call.format(OURS, role))
        assert sorted(function.partition("(")[0] for function in functions) == sorted(f"sre_query.{name}" for name in CALLS_IN_SQL)


def test_what_it_calls_runs_with_fixed_names_as_a_role_that_is_nobody(tenants: TwoTenants) -> None:
    with psycopg.connect(tenants.superuser) as connection:
        called = connection.execute(
            "SELECT proowner::regrole::text, prosecdef, proconfig, proparallel FROM pg_proc "
            "WHERE has_function_privilege('sre_reader', oid, 'EXECUTE') AND pronamespace = 'sre_query'::regnamespace"
        ).fetchall()
        assert {repr(row) for row in called} == {repr(("sre_query", True, ["search_path=pg_catalog, pg_temp", "enable_seqscan=off"], "u"))}
    attributes = (
        "SELECT rolsuper OR rolbypassrls OR rolcanlogin OR rolcreaterole OR rolcreatedb OR rolreplication "
        "FROM pg_roles WHERE rolname IN ('sre_query', 'sre_reader')"
    )
    assert listed(tenants, attributes) == ["False", "False"]


@pytest.mark.parametrize("table", ["sli_ledger", "inbox", "inbox_default", "outbox", "outbox_default", "healthcheck", "intake_position"])
def test_not_even_the_functions_can_reach_what_no_query_gives(tenants: TwoTenants, table: str) -> None:
    with psycopg.connect(tenants.superuser, autocommit=True) as connection:
        connection.execute("SET ROLE sre_query")
        assert refused(connection, f"SELECT FROM {table}")
    rights = f"SELECT has_table_privilege('sre_query', '{table}', 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')"
    assert listed(tenants, rights) == ["False"]


def test_the_functions_can_not_write(tenants: TwoTenants, relations: Sequence[str]) -> None:
    for relation in relations:
        for right in ("INSERT", "UPDATE", "DELETE", "TRUNCATE"):
            assert listed(tenants, f"SELECT has_table_privilege('sre_query', '{relation}', '{right}')") == ["False"], relation


def test_it_has_no_right_on_any_relation_and_no_column(tenants: TwoTenants, relations: Sequence[str]) -> None:
    assert {"slo", "incident", "sli_ledger", "inbox", "outbox", "sre_query.reader_tenant", "schema_migration"} <= set(relations)
    rights = "SELECT has_table_privilege('{0}', '{1}', '{2}') OR has_any_column_privilege('{0}', '{1}', '{3}')"
    for role in ("sre_reader", *tenants.readers.values()):
        for relation in relations:
            every, columns = "SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER", "SELECT, INSERT, UPDATE, REFERENCES"
            assert listed(tenants, rights.format(role, relation, every, columns)) == ["False"], (role, relation)


def test_reading_writing_copying_and_locking_a_relation_is_refused(reader: Connection, relations: Sequence[str]) -> None:
    for name in relations:
        relation = name if "." in name else f"public.{name}"
        for statement in (
            "SELECT count(*) FROM {}",
            "EXPLAIN SELECT FROM {}",
            "COPY {} TO STDOUT",
            "COPY (SELECT FROM {}) TO STDOUT",
            "INSERT INTO {} DEFAULT VALUES",
            "DELETE FROM {}",
            "TRUNCATE {}",
            "LOCK TABLE {} IN ACCESS SHARE MODE",
            "SELECT ts_stat('SELECT to_tsvector(current_user) FROM {}')",
            "DO 'BEGIN PERFORM FROM {}; END'",
            "PREPARE stolen AS SELECT FROM {}; EXECUTE stolen",
            "DECLARE stolen CURSOR FOR SELECT FROM {}",
        ):
            assert refused(reader, statement.format(relation)), statement.format(relation)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE public.stolen (a int)",
        "CREATE TABLE sre_query.stolen (a int)",
        "CREATE TEMPORARY TABLE slo (a int)",
        "CREATE SCHEMA stolen",
        "CREATE FUNCTION sre_query.require_tenant(text) RETURNS void LANGUAGE sql AS ''",
        "CREATE OR REPLACE FUNCTION sre_query.require_tenant(tenant text) RETURNS void LANGUAGE sql AS ''",
        "ALTER FUNCTION sre_query.list_slos SET search_path = pg_temp",
        "ALTER FUNCTION sre_query.list_slos SECURITY INVOKER",
        "DROP FUNCTION sre_query.list_slos",
        "GRANT SELECT ON public.slo TO PUBLIC",
        "CREATE ROLE stolen",
        "CREATE DATABASE stolen",
        "CREATE PUBLICATION stolen FOR ALL TABLES",
        "SET ROLE sre_query",
        "SET ROLE sre_owner",
        "SET ROLE sre_writer",
        "SET SESSION AUTHORIZATION postgres",
        "SET session_replication_role = replica",
        "SELECT sre_query.incident_timeline('acme', 'x')",
        "SELECT sre_query.require_tenant('globex')",
        "SELECT sre_query.page_token('slo', 'acme', now(), 'x')",
        "SELECT pg_read_file('PG_VERSION')",
        "SELECT pg_ls_dir('.')",
        "SELECT lo_import('PG_VERSION')",
        "SELECT lo_create(0)",
        "SELECT lo_from_bytea(0, 'x')",
        "DO 'BEGIN END'",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_advisory_xact_lock(1, 2)",
        "SELECT pg_try_advisory_lock_shared(1)",
        "SELECT pg_create_logical_replication_slot('stolen', 'pgoutput')",
        "COPY (SELECT 1) TO PROGRAM 'cat'",
        "COPY (SELECT 1) TO '/tmp/stolen'",
    ],
)
def test_everything_else_is_refused(reader: Connection, statement: str) -> None:
    if not statement.startswith(("CREATE DATABASE", "SELECT pg_create_logical")):
        assert refused(reader, statement)
        return
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.execute(statement.encode())


def test_row_security_can_not_be_turned_off(reader: Connection) -> None:
    reader.execute("SET row_security = off")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        reader.execute("SELECT * FROM sre_query.list_slos('acme')")


def test_a_large_object_of_somebody_elses_is_closed(tenants: TwoTenants, reader: Connection) -> None:
    (number,) = listed(tenants, "SELECT lo_from_bytea(0, 'x')")
    for statement in ("SELECT lo_get({})", "SELECT lo_open({}, 131072)", "SELECT lo_put({}, 0, 'y')", "SELECT lo_unlink({})"):
        assert refused(reader, statement.format(number)), statement
    assert refused(reader, "SELECT data FROM pg_largeobject")


# --- What PostgreSQL itself tells


def test_no_catalogue_and_no_statistics_tell_anything_of_a_tenant(tenants: TwoTenants, reader: Connection) -> None:
    catalogues = listed(tenants, RELATIONS.format("relnamespace IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)"))
    assert {"pg_stats", "pg_statistic", "pg_stat_activity", "pg_largeobject", "information_schema.tables"} <= set(catalogues)
    with psycopg.connect(tenants.superuser) as connection:
        connection.execute("SELECT FROM slo WHERE tenant_id = 'globex' AND name = %s", [secret_of("globex")])  # what another session does
        assert "globex" in heard(connection, "TABLE pg_stats"), "the test would find nothing where there is something"
        for catalogue in catalogues:
            answer = heard(reader, f"TABLE {catalogue}")
            assert not any(secret_of(tenant) in answer for tenant in TENANTS), catalogue
            assert "globex" not in answer, catalogue


def test_no_function_without_arguments_tells_anything_of_a_tenant(tenants: TwoTenants) -> None:
    functions = listed(
        tenants,
        "SELECT DISTINCT proname FROM pg_proc WHERE pronargs = 0 AND prokind = 'f' AND pronamespace = 'pg_catalog'::regnamespace "
        "AND prorettype::regtype::text NOT LIKE '%trigger' AND has_function_privilege('sre_reader', oid, 'EXECUTE')",
    )
    assert len(functions) > 50
    with connect_reader(tenants.as_reader("acme")) as reader:
        for function in functions:
            answer = heard(reader, f"SELECT pg_catalog.{function}()")
            assert "globex" not in answer, function
            assert secret_of("acme") not in answer, function


@pytest.mark.parametrize("operation", CALLS_IN_SQL)
def test_an_error_after_the_rows_were_read_quotes_none_of_another(reader: Connection, operation: str) -> None:
    for tenant in TENANTS:
        with pytest.raises(psycopg.Error) as raised:
            reader.execute(b"SELECT told::text::integer FROM " + CALLS_IN_SQL[operation] + b" AS told", {"tenant": tenant, "id": ID})
        assert raised.value.sqlstate == ("22P02" if tenant == "acme" else "SRE04")
        assert secret_of("globex") not in f"{raised.value} {raised.value.diag.message_detail} {raised.value.diag.context}"


def test_the_names_of_logins_are_all_it_learns_of_others(tenants: TwoTenants, reader: Connection) -> None:
    with psycopg.connect(tenants.as_reader("globex"), autocommit=True) as other:
        other.execute("SELECT * FROM sre_query.list_slos('globex')")
        row = reader.execute("SELECT query, state, client_addr, xact_start FROM pg_stat_activity WHERE pid = %s", [other.info.backend_pid])
        assert row.fetchone() == ("<insufficient privilege>", None, None, None)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("SELECT pg_terminate_backend(%s)", [other.info.backend_pid])
    assert refused(reader, SQL("GRANT {} TO {}").format(Identifier("sre_owner"), Identifier(tenants.readers["acme"])).as_string(reader))
