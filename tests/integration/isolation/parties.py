"""Who attacks whom, under which login, and how it is seen whether an attack has got through."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.sql import SQL, Identifier

from tests.support.two_tenants import ID, TENANTS, TwoTenants, secret_of
from worker.devstack.logins import RELAY, WRITER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OWN, VICTIM = TENANTS
SECRET: Final = secret_of(VICTIM)
# Ids that the attacker has nothing under.
VICTIMS_ID: Final = "00000000-1111-4222-8333-444444444444"
NOBODYS_ID: Final = "99999999-1111-4222-8333-444444444444"
_AGGREGATES: Final = {
    "alert": "alert_id", "fleetstate": "stream_id", "healthcheck": "healthcheck_id", "incident": "incident_id", "runbook": "runbook_id",
    "slo": "slo_id",
}  # fmt: skip
_IN_DEFAULT_PARTITIONS: Final = (
    """
    INSERT INTO inbox VALUES (%(tenant)s, %(id)s::uuid, %(secret)s, '2200-01-01T00:00:00Z', '', %(secret)s, 0, 1, 'no_change', NULL)
    """,
    """
    INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, topic, partition, tenant_id, ce_time, "timestamp")
    VALUES (gen_random_uuid(), 'slo', %(secret)s, 'SLOCreated', '', 'sre.slo.facts.v1', 0, %(tenant)s, '', '2200-01-01T00:00:00')
    """,
)


@dataclass(frozen=True, slots=True)
class Party:
    """A login, and the session variables that it begins with."""

    name: str
    login: str
    variables: Mapping[str, str] = field(default_factory=dict)


def attackers(made: TwoTenants, stranger: str) -> dict[str, Party]:
    """All that somebody could get hold of but the owner and the superuser, with what they could make of their variables."""
    reader = made.readers[OWN]
    parties = (
        Party("writer of its batch's tenant", WRITER, {"sre.tenants": f"{{{OWN}}}"}),
        Party("writer without a tenant", WRITER),
        Party("writer after a transaction", WRITER, {"sre.tenants": ""}),
        Party("writer with a reader's variable", WRITER, {"sre.tenant": VICTIM}),
        Party("writer of a tenant whose name holds another", WRITER, {"sre.tenants": f'{{"{OWN},{VICTIM}"}}'}),
        Party("reader", reader),
        Party("reader that names a tenant itself", reader, {"sre.tenant": VICTIM, "sre.tenants": f"{{{VICTIM}}}"}),
        Party("relay", RELAY),
        Party("stranger", stranger, {"sre.tenant": VICTIM, "sre.tenants": f"{{{VICTIM}}}"}),
    )
    return {party.name: party for party in parties}


@contextmanager
def session(made: TwoTenants, party: Party) -> Iterator[psycopg.Connection[Any]]:
    """A transaction of this party, which is rolled back."""
    with psycopg.connect(made.as_login(party.login)) as connection:
        begin(connection, party.variables)
        yield connection
        connection.rollback()


def begin(connection: psycopg.Connection[Any], variables: Mapping[str, str]) -> None:
    connection.execute("SET LOCAL statement_timeout = '20s'")
    for name, value in variables.items():
        connection.execute("SELECT set_config(%s, %s, true)", [name, value])


@contextmanager
def stranger(made: TwoTenants) -> Iterator[str]:
    """A login of the same server that is a member of nothing."""
    name = f"stranger_{made.readers[OWN]}"
    with psycopg.connect(made.superuser, autocommit=True) as admin:
        admin.execute(SQL("CREATE ROLE {} LOGIN PASSWORD 'dev'").format(Identifier(name)))
        try:
            yield name
        finally:
            admin.execute(SQL("DROP ROLE {}").format(Identifier(name)))


def add_rows_of_the_victim_alone(superuser: str, tenant: str) -> None:
    """Aggregates under an id that the other tenant has not, and rows in the default partitions."""
    with psycopg.connect(superuser) as connection:
        for table, key in _AGGREGATES.items():
            copied = SQL(
                "INSERT INTO {table} SELECT (jsonb_populate_record({table}, jsonb_build_object({key}, %s::text))).* FROM {table}"
                " WHERE tenant_id = %s"
            )
            connection.execute(copied.format(table=Identifier(table), key=key), [VICTIMS_ID, tenant])
        for statement in _IN_DEFAULT_PARTITIONS:
            connection.execute(statement.encode(), {"tenant": tenant, "secret": secret_of(tenant), "id": ID})
