"""What the migrations leave, whoever wrote them: every table closed, every key by tenant, nothing for everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import psycopg

from tests.integration.isolation.parties import OWN, Party, session
from worker.devstack.logins import WRITER

if TYPE_CHECKING:
    from tests.support.two_tenants import TwoTenants

OURS: Final = "NOT (nspname ~ '^pg_' OR nspname = 'information_schema')"
SAVED: Final = {"SELECT", "INSERT", "UPDATE"}
AGGREGATES: Final = ("alert", "fleetstate", "healthcheck", "incident", "runbook", "runbook_execution", "slo")
# What the statements of each role need, and no more.
RIGHTS: Final = {
    "sre_writer": {
        **dict.fromkeys(AGGREGATES, SAVED),
        "incident_timeline": {"INSERT"},
        "inbox": {"SELECT", "INSERT"},
        "intake_position": SAVED,
        "outbox": {"INSERT"},
        "signing_key": {"SELECT"},
        "sli_ledger": SAVED | {"DELETE"},
    },
    "sre_relay": {table: {"SELECT"} for table in (*AGGREGATES, "inbox", "incident_timeline", "outbox", "sli_ledger")},
    "sre_query": {
        table: {"SELECT"}
        for table in ("alert", "fleetstate", "incident", "incident_timeline", "reader_tenant", "runbook", "runbook_execution", "slo")
    },
}
MAINTENANCE: Final = {
    *("delete_expired_rows", "drop_expired_partition", "expired_partitions", "make_partition", "missing_partitions", "overdue_runbooks"),
    *("partition_ranges", "retention_horizon"),
}


def rows(made: TwoTenants, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(made.superuser) as connection:
        return connection.execute(statement.encode()).fetchall()


def test_row_security_is_forced_on_every_table(made: TwoTenants) -> None:
    found = rows(
        made,
        f"SELECT relname, relrowsecurity AND relforcerowsecurity FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"  # noqa: S608
        f" WHERE relkind IN ('r', 'p') AND {OURS}",
    )
    assert len(found) > 25
    assert [name for name, is_forced in found if not is_forced] == []


def test_a_partition_that_is_made_later_is_closed_too(made: TwoTenants) -> None:
    with session(made, Party("writer", WRITER)) as connection:
        for parent in ("inbox", "outbox"):
            assert connection.execute("SELECT make_partition(%s, '2031-03-03')", [parent]).fetchone() == (None,)
        made_now = (
            "SELECT relrowsecurity, relforcerowsecurity, relacl::text, relowner::regrole::text FROM pg_class WHERE relname ~ '20310303$'"
        )
        tables = connection.execute(made_now + " AND relkind = 'r'").fetchall()
        assert tables == [(True, True, None, "sre_owner")] * 2


def test_keys_and_references_of_a_tenants_rows_begin_with_the_tenant(made: TwoTenants) -> None:
    found = rows(
        made,
        """
        SELECT conrelid::regclass::text, contype::text, ARRAY(
            SELECT attname::text FROM unnest(conkey) WITH ORDINALITY AS key (number, place)
            JOIN pg_attribute ON attrelid = conrelid AND attnum = number ORDER BY place
        ), ARRAY(
            SELECT attname::text FROM unnest(confkey) WITH ORDINALITY AS key (number, place)
            JOIN pg_attribute ON attrelid = confrelid AND attnum = number ORDER BY place
        )
        FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
        WHERE contype IN ('p', 'u', 'f') AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = conrelid AND attname = 'tenant_id')
        """,
    )
    kinds = [kind for _, kind, _, _ in found]
    assert (kinds.count("f"), kinds.count("p") > 15) == (3, True)
    for table, kind, columns, referred in found:
        if (table, columns) != ("signing_key", ["key_id"]):  # an id that follows from the key; the owner alone adds one
            assert columns[0] == "tenant_id", (table, columns)
        assert kind != "f" or (referred[0] == "tenant_id" and len(columns) == len(referred) > 1), (table, columns, referred)


def test_everybody_may_nothing(made: TwoTenants) -> None:
    found = rows(
        made,
        f"""
        SELECT relname, privilege_type FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace,
            aclexplode(coalesce(relacl, acldefault('r', relowner))) WHERE grantee = 0 AND relkind IN ('r', 'p') AND {OURS}
        UNION ALL
        SELECT proname, privilege_type FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace,
            aclexplode(coalesce(proacl, acldefault('f', proowner))) WHERE grantee = 0 AND {OURS}
        UNION ALL
        SELECT nspname, privilege_type FROM pg_namespace, aclexplode(coalesce(nspacl, acldefault('n', nspowner)))
            WHERE grantee = 0 AND {OURS}
        UNION ALL
        SELECT datname, privilege_type FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba)))
            WHERE grantee = 0 AND datname = current_database() AND privilege_type <> 'CONNECT'
        """,  # noqa: S608
    )
    assert found == []


def test_each_role_may_what_its_statements_do_and_no_more(made: TwoTenants) -> None:
    found: dict[str, dict[str, set[str]]] = {role: {} for role in RIGHTS}
    for role, table, right in rows(
        made,
        f"""
        SELECT grantee::regrole::text, relname, privilege_type FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace,
            aclexplode(relacl) WHERE relkind IN ('r', 'p', 'v', 'S') AND {OURS} AND grantee <> relowner
        """,  # noqa: S608
    ):
        found[role].setdefault(table, set()).add(right)
    assert found == RIGHTS
    functions: dict[str, set[str]] = {}
    for role, function in rows(
        made,
        f"SELECT grantee::regrole::text, proname FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace, aclexplode(proacl)"  # noqa: S608
        f" WHERE grantee <> proowner AND {OURS}",
    ):
        functions.setdefault(role, set()).add(function)
    assert functions.pop("sre_writer") == MAINTENANCE | {"applied_migrations"}
    assert functions.pop("sre_relay") == {"applied_migrations"}
    assert all(name.startswith(("get_", "list_")) for name in functions.pop("sre_reader"))
    assert functions == {}


def test_a_function_with_its_owners_rights_looks_where_no_caller_can_put_anything(made: TwoTenants) -> None:
    found = rows(
        made,
        f"SELECT proname, proconfig, proowner::regrole::text FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace"  # noqa: S608
        f" WHERE prosecdef AND {OURS}",
    )
    assert len(found) >= 4 + 9
    for name, settings, owner in found:
        paths = [setting.removeprefix("search_path=") for setting in settings or () if setting.startswith("search_path=")]
        assert paths in (["public, pg_temp"], ["pg_catalog, pg_temp"]), name
        assert owner in {"sre_owner", "sre_query"}, name


def test_no_policy_but_these_lets_all_rows_through(made: TwoTenants) -> None:
    found = rows(made, "SELECT tablename, cmd, roles::text FROM pg_policies WHERE qual = 'true' OR with_check = 'true'")
    assert sorted(found) == [
        ("inbox_default", "DELETE", "{sre_owner}"),
        ("inbox_default", "SELECT", "{sre_owner}"),
        ("intake_position", "ALL", "{sre_writer}"),
        ("outbox_default", "DELETE", "{sre_owner}"),
        ("outbox_default", "SELECT", "{sre_owner}"),
        ("reader_tenant", "ALL", "{sre_owner}"),
        ("reader_tenant", "SELECT", "{sre_query}"),
        ("runbook_execution", "SELECT", "{sre_owner}"),
        ("schema_migration", "ALL", "{sre_owner}"),
        ("signing_key", "ALL", "{sre_owner}"),
        ("signing_key", "SELECT", "{sre_writer}"),
    ]


def test_even_the_owner_sees_no_tenants_rows(made: TwoTenants) -> None:
    with psycopg.connect(made.superuser) as connection:
        connection.execute("SET ROLE sre_owner")
        for table in (
            "alert",
            "fleetstate",
            "healthcheck",
            "inbox",
            "incident",
            "incident_timeline",
            "outbox",
            "runbook",
            "sli_ledger",
            "slo",
        ):
            assert connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (0,), table  # noqa: S608
        connection.execute("SET ROLE sre_writer")
        connection.execute("SELECT set_config('sre.tenants', %s, true)", [f"{{{OWN}}}"])
        assert connection.execute("SELECT count(*) FROM slo").fetchone() == (1,)
