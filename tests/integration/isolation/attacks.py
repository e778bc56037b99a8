"""Attacks on another tenant's rows, and on what keeps them apart, in SQL. Each gets through under a superuser's login, or it is none."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.rows import dict_row
from psycopg.sql import SQL, Composed, Identifier, Literal
from psycopg.types.json import Jsonb

from tests.integration.isolation.parties import OWN, SECRET, VICTIM
from tests.support.two_tenants import ENVIRONMENT, ID

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Query = SQL | Composed
# Changed so that the row is another one than that which is there, by the table it is of.
_FRESH: Final[Mapping[str, Mapping[str, object]]] = {
    "alert": {"alert_id": "fresh"},
    "fleetstate": {"stream_id": "fresh"},
    "healthcheck": {"healthcheck_id": "fresh"},
    "incident": {"incident_id": "fresh"},
    "incident_timeline": {"position": 400},
    "inbox": {"intent_key": "22222222-1111-4222-8333-444444444444"},
    "intake_position": {"topic": "fresh"},
    "runbook": {"runbook_id": "fresh"},
    "runbook_execution": {"execution_id": "22222222-1111-4222-8333-444444444444"},
    "schema_migration": {"number": 9_999},
    "sli_ledger": {"hour": "2026-03-02T23:00:00Z"},
    "slo": {"slo_id": "fresh"},
}


_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "alert": ("tenant_id", "alert_id"),
    "fleetstate": ("tenant_id", "stream_id"),
    "healthcheck": ("tenant_id", "healthcheck_id"),
    "incident": ("tenant_id", "incident_id"),
    "incident_timeline": ("tenant_id", "incident_id", "position"),
    "runbook": ("tenant_id", "runbook_id"),
    "runbook_execution": ("tenant_id", "runbook_id", "execution_id"),
    "sli_ledger": ("tenant_id", "slo_id", "hour"),
    "slo": ("tenant_id", "slo_id"),
}
# Without a row that refers to them: a superuser can give these another tenant.
_WITHOUT_CHILDREN: Final = {"alert", "fleetstate", "healthcheck", "inbox", "outbox"}
_WITH_STATISTICS: Final = {"alert", "healthcheck", "incident", "incident_timeline", "runbook", "runbook_execution", "slo"}


class Aim(Enum):
    """What an attack is after, and so when it has got through."""

    SEE = "the victim is in what comes back"
    CHANGE = "a row is found, locked or written"
    DO = "there is no error"


@dataclass(frozen=True, slots=True)
class Attack:
    name: str
    aim: Aim
    query: Query
    arguments: Mapping[str, object] | None = None
    before: tuple[Query, ...] = ()
    only_reads: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Of schema and name; `row` is one of the victim's, or any where a table is of no tenant, or None where it is empty."""

    schema: str
    name: str
    columns: frozenset[str]
    parent: str
    row: Mapping[str, Any] | None

    @property
    def identifier(self) -> Identifier:
        return Identifier(self.schema, self.name)

    @property
    def of_tenants(self) -> bool:
        return "tenant_id" in self.columns


def gets_through(connection: psycopg.Connection[Any], attack: Attack) -> bool:
    """Whether it does, in a transaction that goes on as if it had not been. No error may tell the secret either."""
    try:
        with connection.transaction(force_rollback=True):
            for query in attack.before:
                connection.execute(query)
            cursor = connection.cursor()
            if "TO STDOUT" in attack.query.as_string():
                with cursor.copy(attack.query, attack.arguments) as copy:
                    seen = b"".join(bytes(part) for part in copy).decode()
            else:
                cursor.execute(attack.query, attack.arguments)
                seen = repr(cursor.fetchall()) if cursor.description is not None else ""
            match attack.aim:
                case Aim.SEE:
                    return VICTIM in seen
                case Aim.CHANGE:
                    return cursor.rowcount > 0
                case Aim.DO:
                    return True
    except psycopg.Error as error:
        # The query itself, which errors quote, names the victim; the message has values of rows alone.
        return SECRET in str(error) or (attack.aim is Aim.SEE and VICTIM in str(error.diag.message_primary))


def tables(superuser: str) -> list[Table]:
    """Every table of ours, each partition one, with a row to try to take."""
    found = []
    with psycopg.connect(superuser, row_factory=dict_row) as connection:
        for table in connection.execute(
            """
            SELECT nspname, relname, array_agg(attname::text) AS columns,
                coalesce((SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = pg_class.oid), relname) AS parent
            FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace JOIN pg_attribute ON attrelid = pg_class.oid
            WHERE relkind IN ('r', 'p') AND nspname !~ '^pg_' AND nspname <> 'information_schema' AND attnum > 0
            GROUP BY nspname, relname, pg_class.oid ORDER BY nspname, relname
            """
        ).fetchall():
            one = SQL("SELECT to_jsonb(found) AS row FROM {} AS found").format(Identifier(table["nspname"], table["relname"]))
            if "tenant_id" in table["columns"]:
                one += SQL(" WHERE tenant_id = {}").format(Literal(VICTIM))
            row = connection.execute(one + SQL(" LIMIT 1")).fetchone()
            found.append(
                Table(table["nspname"], table["relname"], frozenset(table["columns"]), table["parent"], None if row is None else row["row"])
            )
    return found


def on(table: Table) -> Iterator[Attack]:
    """What can be tried on one table."""
    name = table.identifier
    of_victim = SQL("tenant_id = {}").format(Literal(VICTIM)) if table.of_tenants else SQL("true")
    yield from _seeing(table, name, of_victim)
    if table.row is not None:
        yield from _changing(table, name, of_victim, table.row)
    yield from _unfencing(table, name)


def _seeing(table: Table, name: Identifier, of_victim: Query) -> Iterator[Attack]:
    def reading(title: str, aim: Aim, query: Query, *before: Query) -> Attack:
        return Attack(title, aim, query, before=before, only_reads=True)

    yield (
        reading("look", Aim.DO, SQL("SELECT FROM {}").format(name))
        if not _has_victim(table)
        else reading("count", Aim.CHANGE, SQL("SELECT FROM {} WHERE {}").format(name, of_victim))
    )
    yield Attack(
        "lock", Aim.DO if not _has_victim(table) else Aim.CHANGE, SQL("SELECT FROM {} WHERE {} FOR UPDATE").format(name, of_victim)
    )
    if not _has_victim(table):
        return
    whole = SQL("TABLE {}").format(name)
    first = SQL("SELECT FROM {} WHERE {} AND ctid IN (SELECT ctid FROM {})").format(name, of_victim, name)
    yield reading("read", Aim.SEE, SQL("SELECT * FROM {} WHERE {}").format(name, of_victim))
    yield reading("read all", Aim.SEE, whole)
    yield reading("read as a text", Aim.SEE, SQL("SELECT found::text FROM {} AS found").format(name))
    yield reading("read the greatest", Aim.SEE, SQL("SELECT max(found::text) FROM {} AS found WHERE {}").format(name, of_victim))
    yield reading("read in an error", Aim.SEE, SQL("SELECT FROM {} AS found WHERE {} AND found::text::integer > 0").format(name, of_victim))
    yield reading("read by place", Aim.CHANGE, first)
    yield reading("read in a cursor", Aim.SEE, SQL("FETCH ALL FROM c"), SQL("DECLARE c CURSOR FOR TABLE {}").format(name))
    yield reading("read without row security", Aim.SEE, whole, SQL("SET LOCAL row_security = off"))
    yield reading("copy out", Aim.SEE, SQL("COPY (SELECT * FROM {}) TO STDOUT").format(name))
    yield Attack("lock as a reference does", Aim.CHANGE, SQL("SELECT FROM {} WHERE {} FOR KEY SHARE").format(name, of_victim))


def _has_victim(table: Table) -> bool:
    return table.of_tenants and table.row is not None


def _changing(table: Table, name: Identifier, of_victim: Query, row: Mapping[str, Any]) -> Iterator[Attack]:
    some = Identifier(next(column for column in sorted(table.columns) if column not in {"tenant_id", *_FRESH.get(table.parent, {})}))
    deleted = SQL("DELETE FROM {} WHERE {}").format(name, of_victim)
    yield Attack("update", Aim.CHANGE, SQL("UPDATE {} SET {} = {} WHERE {}").format(name, some, some, of_victim))
    yield Attack("delete", Aim.CHANGE, deleted)
    if table.parent in _FRESH:
        fresh = {"row": Jsonb({**row, **_FRESH[table.parent]})}
        inserted = SQL("INSERT INTO {} SELECT * FROM jsonb_populate_record(NULL::{}, %(row)s)").format(name, name)
        yield Attack("insert", Aim.CHANGE, inserted, fresh)
        yield Attack("insert where nothing is", Aim.CHANGE, inserted + SQL(" ON CONFLICT DO NOTHING"), fresh)
        if table.parent in _KEYS:
            over = SQL(" ON CONFLICT ({}) DO UPDATE SET {} = excluded.{}").format(_key_of(table), some, some)
            yield Attack("insert over it", Aim.CHANGE, inserted + over, {"row": Jsonb(dict(row))})
    if not table.of_tenants:
        return
    merged = SQL(
        "MERGE INTO {} AS row USING (VALUES ({})) AS wanted (tenant) ON row.tenant_id = wanted.tenant"
        " WHEN MATCHED THEN UPDATE SET {} = row.{}"
    )
    yield Attack("merge", Aim.CHANGE, merged.format(name, Literal(VICTIM), some, some))
    yield Attack("update all and see", Aim.SEE, SQL("UPDATE {} SET {} = {} RETURNING *").format(name, some, some))
    yield Attack("delete all and see", Aim.SEE, SQL("DELETE FROM {} RETURNING *").format(name))
    if table.parent in _WITHOUT_CHILDREN:
        yield Attack("take over", Aim.CHANGE, SQL("UPDATE {} SET tenant_id = {} WHERE {}").format(name, Literal(OWN + "2"), of_victim))


def _key_of(table: Table) -> Query:
    return SQL(", ").join(map(Identifier, _KEYS[table.parent]))


def _unfencing(table: Table, name: Identifier) -> Iterator[Attack]:
    commands = {
        "truncate": "TRUNCATE {} CASCADE",
        "disable row security": "ALTER TABLE {} DISABLE ROW LEVEL SECURITY",
        "free its owner": "ALTER TABLE {} NO FORCE ROW LEVEL SECURITY",
        "add a policy": "CREATE POLICY open ON {} USING (true)",
        "own it": "ALTER TABLE {} OWNER TO CURRENT_USER",
        "alter it": "ALTER TABLE {} ADD CONSTRAINT mine CHECK (true)",
        "drop it": "DROP TABLE {} CASCADE",
        "watch it with a trigger": "CREATE TRIGGER mine AFTER UPDATE ON {} EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "index it": "CREATE INDEX ON {} ((1))",
        "rewrite it with a rule": "CREATE RULE mine AS ON UPDATE TO {} DO ALSO NOTHING",
        "publish it": "CREATE PUBLICATION mine FOR TABLE {}",
        "show it in a view": "CREATE VIEW public.mine AS SELECT FROM {}",
        "inherit from it": "CREATE TABLE public.mine (LIKE {} INCLUDING ALL)",
        "stop its users": "LOCK TABLE {} IN ACCESS EXCLUSIVE MODE",
        "comment on it": "COMMENT ON TABLE {} IS 'mine'",
    }
    for title, command in commands.items():
        yield Attack(title, Aim.DO, SQL(command).format(name))
    # Whoever may not grant is only warned.
    granted = SQL("SELECT WHERE has_table_privilege('public', {}, 'INSERT')").format(Literal(f"{table.schema}.{table.name}"))
    yield Attack("grant it", Aim.CHANGE, granted, before=(SQL("GRANT ALL ON {} TO PUBLIC").format(name),))
    if table.name in {*_KEYS, "inbox", "outbox"}:
        yield Attack("drop its policy", Aim.DO, SQL("DROP POLICY tenants_of_batch ON {}").format(name))
        yield Attack("open its policy", Aim.DO, SQL("ALTER POLICY tenants_of_batch ON {} USING (true)").format(name))
    if table.name in _WITH_STATISTICS:
        known = SQL("SELECT * FROM pg_stats WHERE schemaname = {} AND tablename = {}").format(Literal(table.schema), Literal(table.name))
        yield Attack("read what the planner knows", Aim.SEE, known, only_reads=True)


def on_the_database(database: str, readers: Mapping[str, str]) -> Iterator[Attack]:
    """What needs no table's name."""
    for role in ("sre_owner", "sre_writer", "sre_relay", "sre_reader", "sre_query", "postgres", readers[VICTIM]):
        yield Attack(f"become {role}", Aim.DO, SQL("SET ROLE {}").format(Identifier(role)))
        yield Attack(f"log in as {role}", Aim.DO, SQL("SET SESSION AUTHORIZATION {}").format(Identifier(role)))
    commands = {
        "give sre_owner away": "GRANT sre_owner TO sre_writer",
        "give sre_relay away": "GRANT sre_relay TO sre_reader",
        "make a schema": "CREATE SCHEMA mine",
        "make a table": "CREATE TABLE public.mine ()",
        "make a table beside the queries": "CREATE TABLE sre_query.mine ()",
        "make a function": "CREATE FUNCTION public.mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "make a function beside the queries": "CREATE FUNCTION sre_query.mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "make an operator": "CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = textne)",
        "make a role": "CREATE ROLE mine SUPERUSER",
        "make a foreign data wrapper": "CREATE FOREIGN DATA WRAPPER mine",
        "rename a query": "ALTER FUNCTION sre_query.list_slos RENAME TO mine",
        "change where a query looks": "ALTER FUNCTION sre_query.list_slos SET search_path = pg_temp",
        "change where a function looks": "ALTER FUNCTION public.overdue_runbooks SET search_path = pg_temp",
        "publish more": "ALTER PUBLICATION sre_outbox ADD TABLE public.slo",
        "change defaults": "ALTER DEFAULT PRIVILEGES FOR ROLE sre_owner GRANT ALL ON TABLES TO PUBLIC",
        "change a role": "ALTER ROLE sre_reader BYPASSRLS",
        "change a role's variables": "ALTER ROLE sre_writer SET sre.tenants = '{globex}'",
        "run a program": "COPY (SELECT 1) TO PROGRAM 'cat > /dev/null'",
        "write a file": "COPY (SELECT 1) TO '/dev/null'",
        "read a file": "SELECT pg_read_file('PG_VERSION')",
        "list files": "SELECT pg_ls_dir('.')",
        "import a file": "SELECT lo_import('PG_VERSION')",
        "read raw statistics": "SELECT FROM pg_statistic",
        "read passwords": "SELECT FROM pg_authid",
        "have settings read again": "SELECT pg_reload_conf()",
        "skip triggers and references": "SET LOCAL session_replication_role = replica",
        "name an origin": "SELECT pg_replication_origin_create('mine')",
        "stop the partitions": "SELECT create_partitions(now(), 1)",
        "see what was migrated": "SELECT FROM schema_migration",
    }
    for title, command in commands.items():
        yield Attack(title, Aim.DO, SQL(command))
    yield Attack("change the database's variables", Aim.DO, SQL("ALTER DATABASE {} SET sre.tenants = ''").format(Identifier(database)))
    yield Attack("see what others ask", Aim.SEE, SQL("SELECT query FROM pg_stat_activity WHERE pid <> pg_backend_pid()"))


def beside_the_operations() -> Iterator[Attack]:
    """What the operations of sre_query call and read, which checks no tenant by itself."""
    named = SQL("SELECT set_config('sre.tenant', {}, true)").format(Literal(VICTIM))
    inner = SQL("SELECT sre_query.incident_timeline({}, {})::text").format(Literal(VICTIM), Literal(ID))
    yield Attack("call what an operation calls", Aim.CHANGE, inner, before=(named,))
    yield Attack("see who may read whom", Aim.DO, SQL("SELECT FROM sre_query.reader_tenant"))
    yield Attack("read whom it likes", Aim.CHANGE, SQL("INSERT INTO sre_query.reader_tenant VALUES ('*', 'sre_reader')"))


def by_the_operations(own: str) -> Iterator[Attack]:
    """The victim's rows, asked for by a reader of `own`."""
    gets = {f"get_{name}": Literal(ID) for name in ("alert", "incident", "runbook", "slo")}
    lists = dict.fromkeys(("list_active_alerts", "list_open_incidents", "list_runbooks", "list_slos"))
    for name, argument in {**gets, **lists, "get_current_fleet_state": Literal(ENVIRONMENT)}.items():
        more = SQL("") if argument is None else SQL(", {}").format(argument)
        call = SQL("SELECT found::text FROM sre_query.{}({}{}) AS found").format(Identifier(name), Literal(VICTIM), more)
        first = SQL("SELECT FROM sre_query.{}({}{})").format(Identifier(name), Literal(own), more)
        named = SQL("SELECT set_config('sre.tenant', {}, true)").format(Literal(VICTIM))
        yield Attack(f"{name} of another", Aim.CHANGE, call)
        yield Attack(f"{name} of another, after its own", Aim.CHANGE, call, before=(first,))
        yield Attack(f"{name} of another, named beforehand", Aim.CHANGE, call, before=(named,))
