"""Databases of a test's own."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def own_database(server: str, template: str = "template1") -> Iterator[str]:
    """A superuser's DSN; the database goes at the end, with every replication slot that was made there."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(template)))
        yield make_conninfo(server, dbname=name)
        drop_database(admin, name)


def drop_database(admin: psycopg.Connection[Any], name: str) -> None:
    """PostgreSQL notices a killed relay a moment later. One that still runs makes this fail, as it should: its slot stays active."""
    active = "SELECT count(*) FROM pg_replication_slots WHERE database = %s AND active"
    deadline = time.monotonic() + 5
    while admin.execute(active, [name]).fetchone() != (0,) and time.monotonic() < deadline:
        time.sleep(0.02)
    admin.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s", [name])
    admin.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))
