"""What each login may do and, as much, what it must not: the table of docs/roles.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from worker.doctor.database import asked, session
from worker.doctor.finding import fail, not_checked, ok, warn
from worker.postgres.named_sql import statements

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from worker.doctor.finding import Finding

ROLES_MISSING = fail("{names} missing", "as a superuser run sql/roles.sql in this database")
RELAY_ROLE = fail("role sre_relay lacks REPLICATION or BYPASSRLS", "as a superuser run sql/roles.sql in this database")
ROLES_THERE = ok("sre_owner, sre_writer, sre_relay, sre_reader and sre_query are there")

NOT_GIVEN = not_checked("{variable} is not set here, so its login is not known")
NO_LOGIN = fail("{variable}: no login: {why}", "mend the URL, the password, pg_hba.conf, or make the login (docs/roles.md)")
WRITER = fail("SRE_DATABASE_URL: role {login} {why}", "give the worker a login that is a member of sre_writer and of no other role")
WRITER_FITS = ok("{login} is a member of sre_writer and bound by every row policy")
NOT_RELAY = fail("SRE_RELAY_DATABASE_URL: role {login} is no member of sre_relay", "GRANT sre_relay TO {login}")
NO_ATTRIBUTES = fail("SRE_RELAY_DATABASE_URL: role {login} lacks {attributes}", "ALTER ROLE {login} REPLICATION BYPASSRLS")
TOO_MUCH = warn("{variable}: role {login} {why}, more than its job needs", "give it a login of {role} (docs/roles.md)")
RELAY_FITS = ok("{login} is a member of sre_relay with REPLICATION and BYPASSRLS")
NOT_READER = fail("SRE_QUERY_DATABASE_URL: role {login} is no member of sre_reader", "GRANT sre_reader TO {login}")
READER_FITS = ok("{login} is a member of sre_reader and of none of the others")
NOT_OWNER = fail("SRE_MIGRATE_DATABASE_URL: role {login} is no member of sre_owner", "GRANT sre_owner TO {login}")
OWNER_FITS = ok("{login} may act as sre_owner")


def check_roles(dsn: str) -> Iterator[Finding]:
    with session(dsn) as connection:
        roles = {row["name"]: row for row in asked(connection, "roles")}
    if missing := [name for name, row in roles.items() if not row["exists"]]:
        yield ROLES_MISSING.of(names=" and ".join(missing))
    elif not roles["sre_relay"]["has_relay_attributes"]:
        yield RELAY_ROLE.of()
    else:
        yield ROLES_THERE.of()


def check_writer(dsn: str) -> Iterator[Finding]:
    with session(dsn) as connection:
        (row,) = connection.execute(statements("role")["too_much"]).fetchall()
        (why,) = row.values()
        login = connection.info.user
    yield WRITER_FITS.of(login=login) if why is None else WRITER.of(login=login, why=why)


def check_relay(dsn: str | None) -> Iterator[Finding]:
    """`dsn` None: the URL is not given, and the worker's would stand in for it."""
    login, refused = _login(dsn, "SRE_RELAY_DATABASE_URL")
    if refused is not None:
        yield refused
        return
    lacks = [name for name, has in (("REPLICATION", login["replication"]), ("BYPASSRLS", login["bypassrls"])) if not has]
    if login["is_superuser"]:
        yield TOO_MUCH.of(variable="SRE_RELAY_DATABASE_URL", login=login["name"], why="is a superuser", role="sre_relay")
    elif "sre_relay" not in login["member_of"]:
        yield NOT_RELAY.of(login=login["name"])
    elif lacks:
        yield NO_ATTRIBUTES.of(login=login["name"], attributes=" and ".join(lacks))
    elif others := sorted({"sre_owner", "sre_writer"} & set(login["member_of"])):
        yield TOO_MUCH.of(variable="SRE_RELAY_DATABASE_URL", login=login["name"], why=f"is a member of {others[0]}", role="sre_relay alone")
    else:
        yield RELAY_FITS.of(login=login["name"])


def check_reader(dsn: str | None) -> Iterator[Finding]:
    login, refused = _login(dsn, "SRE_QUERY_DATABASE_URL")
    if refused is not None:
        yield refused
        return
    others = sorted({"sre_owner", "sre_writer", "sre_relay"} & set(login["member_of"]))
    if login["is_superuser"]:
        yield TOO_MUCH.of(variable="SRE_QUERY_DATABASE_URL", login=login["name"], why="is a superuser", role="sre_reader")
    elif "sre_reader" not in login["member_of"]:
        yield NOT_READER.of(login=login["name"])
    elif others:
        yield TOO_MUCH.of(
            variable="SRE_QUERY_DATABASE_URL", login=login["name"], why=f"is a member of {others[0]}", role="sre_reader alone"
        )
    else:
        yield READER_FITS.of(login=login["name"])


def check_owner(dsn: str | None) -> Iterator[Finding]:
    login, refused = _login(dsn, "SRE_MIGRATE_DATABASE_URL")
    if refused is not None:
        yield refused
    elif login["is_superuser"] or "sre_owner" in login["member_of"]:
        yield OWNER_FITS.of(login=login["name"])
    else:
        yield NOT_OWNER.of(login=login["name"])


def _login(dsn: str | None, variable: str) -> tuple[dict[str, Any], Finding | None]:
    if dsn is None:
        return {}, NOT_GIVEN.of(variable=variable)
    try:
        with session(dsn) as connection:
            (login,) = asked(connection, "login")
    except psycopg.OperationalError as error:
        return {}, NO_LOGIN.of(variable=variable, why=" ".join(str(error).split()))
    return login, None
