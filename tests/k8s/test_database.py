"""A database made as CloudNativePG makes it from the Cluster is one that the migration, the worker and the relay can work with."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from tests.k8s.kustomize import OVERLAYS, manifests, named
from tests.support.databases import drop_database
from worker.postgres.connection import WriterRoleError, check_writer
from worker.postgres.migrate import migrate
from worker.relay.slot import ensure_slot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.k8s.kustomize import Manifest

PASSWORD = "s3cret"  # noqa: S105 - of a test's server
ATTRIBUTES = {
    "login": "LOGIN",
    "replication": "REPLICATION",
    "bypassrls": "BYPASSRLS",
    "superuser": "SUPERUSER",
    "createrole": "CREATEROLE",
}


class Made:
    """The database and its logins; roles are of the whole server, so each has a name of this test's own."""

    def __init__(self, server: str) -> None:
        self.server, self.suffix = server, uuid4().hex[:8]
        self.database = f"sre_{self.suffix}"

    def role(self, name: str) -> str:
        return f"{name}_{self.suffix}"

    def dsn(self, name: str) -> str:
        return make_conninfo(self.server, dbname=self.database, user=self.role(name), password=PASSWORD)


@contextmanager
def made_by_the_operator(found: list[Manifest], server: str) -> Iterator[Made]:
    """The owner and database of initdb, the SQL of its references as a superuser in one go, and then the managed roles."""
    database = named(found, "Cluster", "postgres")["spec"]
    initdb, made = database["bootstrap"]["initdb"], Made(server)
    owner = Identifier(made.role(initdb["owner"]))
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(SQL("CREATE ROLE {} LOGIN").format(owner))
        admin.execute(SQL("CREATE DATABASE {} OWNER {}").format(Identifier(made.database), owner))
        try:
            with psycopg.connect(make_conninfo(server, dbname=made.database), autocommit=True) as superuser:
                for reference in initdb["postInitApplicationSQLRefs"]["configMapRefs"]:
                    superuser.execute(named(found, "ConfigMap", reference["name"])["data"][reference["key"]].encode())
            for role in database["managed"]["roles"]:
                manage(admin, made, role)
            yield made
        finally:
            drop_database(admin, made.database)
            for role in database["managed"]["roles"]:
                admin.execute(SQL("DROP ROLE IF EXISTS {}").format(Identifier(made.role(role["name"]))))


def manage(admin: psycopg.Connection[Any], made: Made, role: Manifest) -> None:
    """Every attribute that the manifest does not give is taken away."""
    name = Identifier(made.role(role["name"]))
    if not admin.execute("SELECT FROM pg_roles WHERE rolname = %s", [made.role(role["name"])]).rowcount:
        admin.execute(SQL("CREATE ROLE {}").format(name))
    attributes = SQL(" ").join(SQL(word if role.get(attribute) else f"NO{word}") for attribute, word in ATTRIBUTES.items())
    admin.execute(SQL("ALTER ROLE {} {} PASSWORD {}").format(name, attributes, PASSWORD))
    for group in role["inRoles"]:
        admin.execute(SQL("GRANT {} TO {}").format(Identifier(group), name))


@pytest.mark.parametrize("tree", OVERLAYS)
def test_the_database_of_the_manifests_is_migrated_and_used_under_its_logins(tree: str, server: str) -> None:
    with made_by_the_operator(manifests(tree), server) as made:
        assert migrate(made.dsn("sre_migrator"))
        assert migrate(made.dsn("sre_migrator")) == ()
        assert ensure_slot(made.dsn("sre_mover"), made.role("slot"))
        check_writer(made.dsn("sre_worker"))
        with psycopg.connect(make_conninfo(server, dbname=made.database)) as admin:
            (failover,) = (
                admin.execute("SELECT failover FROM pg_replication_slots WHERE slot_name = %s", [made.role("slot")]).fetchone() or ()
            )
            assert failover or admin.info.server_version < 170000
        with psycopg.connect(made.dsn("sre_mover")) as relay:
            assert relay.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
        with psycopg.connect(made.dsn("sre_worker")) as worker, pytest.raises(psycopg.errors.InsufficientPrivilege):
            worker.execute("DROP TABLE inbox")


def test_without_its_membership_the_worker_is_refused(server: str) -> None:
    found = manifests("overlays/prod")
    next(role for role in named(found, "Cluster", "postgres")["spec"]["managed"]["roles"] if role["name"] == "sre_worker")["inRoles"] = []
    with made_by_the_operator(found, server) as made:
        migrate(made.dsn("sre_migrator"))
        with pytest.raises(WriterRoleError, match="sre_writer"):
            check_writer(made.dsn("sre_worker"))
