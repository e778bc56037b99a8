"""The server, the schema and what lies in it: asked in read-only transactions, each statement for a limited time."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

from worker.doctor.finding import fail, not_checked, ok, warn
from worker.postgres.migrate import MIGRATIONS, read_migrations
from worker.postgres.named_sql import statements
from worker.postgres.schema_version import SchemaError, refuse_misfit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from worker.doctor.finding import Finding

_CONNECTION: Final[Mapping[str, Any]] = {"connect_timeout": 5, "tcp_user_timeout": 10_000, "application_name": "sre-domain doctor"}
_MIN_VERSION: Final = 150_000
_DAYS_AHEAD: Final = 7
# What the migrations make, by the name of the policy; whatever else lets somebody see rows was made by hand.
_POLICIES: Final = frozenset(
    {
        *("tenants_of_batch", "positions", "tenant_of_reader", "maintenance_reads", "maintenance_deletes", "sweep", "migrations", "keys"),
        *("keys_of_all", "grants", "grants_of_session"),
    }
)

OUT_OF_REACH = fail("can't be reached: {why}", "mend SRE_DATABASE_URL, the network, pg_hba.conf or the server")
TOO_OLD = fail("PostgreSQL {version} is older than 15", "upgrade PostgreSQL; 17 and later also keep the slot over a failover")
STANDBY = fail("this server is a standby", "let SRE_DATABASE_URL lead to the primary, as with target_session_attrs=primary")
NOT_LOGICAL = fail("wal_level is {level}", "set wal_level = logical and restart PostgreSQL")
REACHED = ok("PostgreSQL {version}, wal_level logical")

MISFIT = fail("{why}", "docs/upgrading.md says which versions work side by side")
NEVER_MIGRATED = fail("the database was not migrated, or by a version before this one", "run sre-domain migrate")
CHANGED = fail(
    "{name} was applied with another content than this version's file", "run the version that applied it; never change an applied file"
)
POST_WAITS = warn("{name} waits for the end of the roll-out", "run sre-domain migrate once no worker of the version before runs")
AHEAD = warn("{name} is of a later version, which only added something", "end the roll-out, or go back; this version works meanwhile")
MIGRATED = ok("{count} migrations are applied, the last one is {name}")

OPEN_TABLE = fail(
    "row security is not forced on {table}", "as sre_owner: ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
)
NO_POLICY = fail(
    "{table} has no policy tenants_of_batch, or not as it was made",
    "restore it as sql/migrations/0008_pre_roles_rls.sql makes it, or the schema from a backup",
)
STRANGE_POLICY = fail(
    "policy {policy} on {table} is none of sre-domain's", "see what it lets through; as sre_owner: DROP POLICY {policy} ON {table}"
)
FOREIGN_OWNER = fail("{table} belongs to {owner}, not to sre_owner", "as a superuser: ALTER TABLE {table} OWNER TO sre_owner")
CLOSED = ok("forced on all {count} tables, and no policy but sre-domain's")

NO_PARTITION = fail("{table} has no partition for {days}: its rows go to the default one", "run sre-domain maintain; see why no worker did")
FEW_PARTITIONS = warn("{table} lacks partitions of the coming week: {days}", "run sre-domain maintain; a worker does so every hour")
PARTITIONED = ok("inbox and outbox have partitions for the coming {days} days")
NO_FUNCTIONS = not_checked("the functions of maintenance are missing or not granted: migrations and roles have to be in order first")


@contextmanager
def session(dsn: str) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    """A connection that can write nothing. Raises psycopg.Error."""
    with psycopg.connect(make_conninfo(**{**_CONNECTION, **conninfo_to_dict(dsn)}), autocommit=True, row_factory=dict_row) as connection:
        connection.execute(statements("doctor")["only_read"])
        yield connection


def asked(connection: psycopg.Connection[dict[str, Any]], statement: str, **values: object) -> Sequence[dict[str, Any]]:
    return connection.execute(statements("doctor")[statement], values).fetchall()


def check_server(dsn: str) -> Iterator[Finding]:
    try:
        with session(dsn) as connection:
            (server,) = asked(connection, "server")
    except psycopg.OperationalError as error:
        yield OUT_OF_REACH.of(why=" ".join(str(error).split()))
        return
    faults = [
        *([TOO_OLD.of(version=server["version"])] if server["version_number"] < _MIN_VERSION else []),
        *([STANDBY.of()] if server["is_standby"] else []),
        *([NOT_LOGICAL.of(level=server["wal_level"])] if server["wal_level"] != "logical" else []),
    ]
    yield from faults or [REACHED.of(version=server["version"])]


def check_migrations(dsn: str) -> Iterator[Finding]:
    with session(dsn) as connection:
        try:
            applied = connection.execute(statements("role")["applied_migrations"]).fetchall()
        except (psycopg.errors.UndefinedFunction, psycopg.errors.UndefinedTable):
            yield NEVER_MIGRATED.of()
            return
    ours = {migration.name: migration for migration in read_migrations(MIGRATIONS)}
    names = [row["name"] for row in applied]
    try:
        refuse_misfit(names)
    except SchemaError as error:
        yield MISFIT.of(why=error)
        return
    changed = [row["name"] for row in applied if row["name"] in ours and ours[row["name"]].checksum != row["checksum"]]
    faults = [
        *(CHANGED.of(name=name) for name in changed),
        *(POST_WAITS.of(name=name) for name in ours if name not in names),
        *(AHEAD.of(name=name) for name in names if name not in ours),
    ]
    yield from faults or [MIGRATED.of(count=len(names), name=names[-1])]


def check_row_security(dsn: str) -> Iterator[Finding]:
    with session(dsn) as connection:
        tables, policies = asked(connection, "tables"), asked(connection, "policies")
    faults = [
        *(OPEN_TABLE.of(table=row["name"]) for row in tables if not row["is_closed"]),
        *(FOREIGN_OWNER.of(table=row["name"], owner=row["owner"]) for row in tables if row["owner"] != "sre_owner"),
        *(NO_POLICY.of(table=row["name"]) for row in tables if row["needs_policy"] and not row["has_policy"]),
        *(STRANGE_POLICY.of(policy=row["name"], table=row["table"]) for row in policies if row["name"] not in _POLICIES),
    ]
    yield from faults or [CLOSED.of(count=len(tables))]


def check_partitions(dsn: str, retention_days: Mapping[str, int], now: datetime) -> Iterator[Finding]:
    """`retention_days` by table, as maintenance has it."""
    soon = (now.astimezone(UTC) + timedelta(days=1)).date()
    faults = []
    with session(dsn) as connection:
        for table, days in retention_days.items():
            named = {"parent": table, "retention_days": days, "days_ahead": _DAYS_AHEAD}
            try:
                missing = [row["first"] for row in connection.execute(statements("maintenance")["missing_partitions"], named).fetchall()]
            except (psycopg.errors.UndefinedFunction, psycopg.errors.InsufficientPrivilege):
                yield NO_FUNCTIONS.of()
                return
            if missing:
                line = NO_PARTITION if min(missing) <= soon else FEW_PARTITIONS
                faults.append(line.of(table=table, days=", ".join(f"{day:%Y-%m-%d}" for day in sorted(missing))))
    yield from faults or [PARTITIONED.of(days=_DAYS_AHEAD)]
