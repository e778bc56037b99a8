"""Login roles of a development server, one for each job; a server that trusts everybody doesn't ask for their password."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from worker.postgres.named_sql import statements

if TYPE_CHECKING:
    from collections.abc import Mapping

WRITER: Final = "sre_writer_dev"
RELAY: Final = "sre_relay_dev"
READER: Final = "sre_reader_dev"
PASSWORD: Final = "dev"  # noqa: S105 - no secret: such a server listens on the loopback interface, or is a test's

# Attributes don't come with a membership.
_ROLES: Final[Mapping[str, tuple[str, SQL]]] = {
    WRITER: ("sre_writer", SQL("")),
    RELAY: ("sre_relay", SQL(" REPLICATION BYPASSRLS")),
    READER: ("sre_reader", SQL("")),
}


def make_logins(superuser_dsn: str) -> None:
    """Make those that are missing, and let the reader of this migrated database see every tenant. Raises psycopg.Error."""
    with psycopg.connect(superuser_dsn, autocommit=True) as connection:
        for login, (role, attributes) in _ROLES.items():
            made = SQL("CREATE ROLE {} LOGIN PASSWORD {}{} IN ROLE {}").format(Identifier(login), PASSWORD, attributes, Identifier(role))
            with suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
                connection.execute(made)
        connection.execute(statements("grants")["grant_every_tenant"], {"reader": READER})


def login(dsn: str, role: str) -> str:
    """The same database under one of these logins."""
    return make_conninfo(dsn, user=role, password=PASSWORD)
