"""A database in which two tenants have the same of everything, under the same ids; every text of a row holds its tenant's secret."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString
from uuid import uuid4

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Composed, Identifier

from worker.devstack.logins import login
from worker.postgres.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

TENANTS = ("acme", "globex")
ID = "5f8d2c1e-6b1d-4f0f-8c64-0b8f6a3d2e10"
ENVIRONMENT, CLUSTER = "production", "prod-eu"

ROWS: tuple[LiteralString, ...] = (
    """
    INSERT INTO incident VALUES (%(tenant)s, %(id)s, 7, %(at)s, %(at)s, %(secret)s, %(secret)s, 'high', 'open', 'manual',
        jsonb_build_array(%(secret)s::text), %(secret)s, 1, NULL, NULL, NULL, NULL, NULL, 0, %(at)s)
    """,
    "INSERT INTO incident_timeline VALUES (%(tenant)s, %(id)s, 1, gen_random_uuid(), 'note', %(secret)s, %(at)s, %(secret)s)",
    """
    INSERT INTO alert VALUES (%(tenant)s, %(id)s, 7, %(at)s, %(at)s, 'custom', %(secret)s, %(secret)s, 'high', 'firing',
        jsonb_build_object(%(secret)s::text, %(secret)s::text), '{}', %(at)s, NULL, 1, %(at)s, %(id)s, NULL, NULL, NULL, NULL)
    """,
    """
    INSERT INTO runbook VALUES (%(tenant)s, %(id)s, 7, %(at)s, %(at)s, %(secret)s, %(secret)s, '[]',
        jsonb_build_array(jsonb_build_object('step_id', 'a', 'title', %(secret)s::text, 'instruction', '', 'action', NULL)),
        'manual', false, %(secret)s, '[]', 1)
    """,
    """
    INSERT INTO runbook_execution VALUES (%(tenant)s, %(id)s, gen_random_uuid(), 1, 'running', %(secret)s, '{}', NULL, %(secret)s,
        NULL, 60, %(at)s, NULL, NULL, '[]', %(secret)s)
    """,
    """
    INSERT INTO slo VALUES (%(tenant)s, %(id)s, 7, %(at)s, %(at)s, %(secret)s, %(secret)s, %(secret)s, %(secret)s, 99, '7d', 'good',
        'total', 'occurrences', NULL, NULL, 'no_data', 100, 0, NULL, NULL, 0, 0, 0, 0, 0)
    """,
    "INSERT INTO sli_ledger VALUES (%(tenant)s, %(id)s, %(at)s, decode(repeat('00', 1320), 'hex'), 0, 0, 0, 0, 0)",
    """
    INSERT INTO fleetstate VALUES (%(tenant)s, %(id)s, 7, %(at)s, %(at)s, md5(%(secret)s::text)::uuid, 'production', 'prod-eu', %(at)s,
        %(size)s, %(size)s, 0, 0, 0, 0)
    """,
    """
    INSERT INTO healthcheck VALUES (%(tenant)s, %(id)s, 7, %(at)s, %(at)s, %(secret)s, 'probe', %(at)s, 'healthy', %(secret)s, '[]')
    """,
    """
    INSERT INTO inbox VALUES (%(tenant)s, %(id)s::uuid, %(secret)s, now(), '', %(secret)s, 0, 0, 'no_change', NULL)
    """,
    """
    INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, topic, partition, tenant_id, ce_time)
    VALUES (gen_random_uuid(), 'slo', %(secret)s::text, 'SLOCreated', convert_to(%(secret)s::text, 'UTF8'), 't', 0, %(tenant)s, '')
    """,
)


@dataclass(frozen=True, slots=True)
class TwoTenants:
    """`superuser` is a DSN; `as_reader` gives that of a login that may read one tenant, `as_login` that of any other role."""

    superuser: str
    readers: dict[str, str]

    def as_reader(self, tenant: str) -> str:
        return self.as_login(self.readers[tenant])

    def as_login(self, role: str) -> str:
        return login(self.superuser, role)

    def execute(self, statement: LiteralString | Composed, arguments: dict[str, object] | None = None) -> None:
        """As the superuser."""
        with psycopg.connect(self.superuser) as connection:
            connection.execute(statement, arguments)


def secret_of(tenant: str) -> str:
    """In every text of the tenant's rows, whole, and nowhere else."""
    return f"secret-{tenant}-7f3a"


@contextmanager
def two_tenants(server: str, template: str) -> Iterator[TwoTenants]:
    name = f"test_{uuid4().hex}"
    readers = {tenant: f"reader_{number}_{name}" for number, tenant in enumerate(TENANTS)}
    database = make_conninfo(server, dbname=name)
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(template)))
        for reader in readers.values():
            admin.execute(SQL("CREATE ROLE {} LOGIN PASSWORD 'dev' IN ROLE sre_reader").format(Identifier(reader)))
        migrate(database)  # a copy lacks the rights on the database itself
        with psycopg.connect(database) as connection:
            for size, (tenant, reader) in enumerate(readers.items(), start=1):
                values = {"tenant": tenant, "secret": secret_of(tenant), "id": ID, "at": "2026-03-02T09:00:00Z", "size": size}
                for statement in ROWS:
                    connection.execute(statement, values)
                connection.execute("INSERT INTO sre_query.reader_tenant VALUES (%s, %s::regrole)", [tenant, reader])
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("ANALYZE")
        yield TwoTenants(database, readers)
        admin.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))
        for reader in readers.values():
            admin.execute(SQL("DROP ROLE {}").format(Identifier(reader)))
