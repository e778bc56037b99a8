"""Page tokens against the SQL functions, on a real PostgreSQL: a page of the asking tenant's rows, or a coded refusal.

Input: a byte that names the list, one that says how the token comes (0: as it is, 1: with a digest that is right), then the token.
"""

from __future__ import annotations

import atexit
import tempfile
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg

from tests.support.roles import as_reader
from worker.devstack.logins import make_logins
from worker.devstack.postgres import running_postgres
from worker.postgres.migrate import migrate
from worker.postgres.queries import (
    QueryError,
    SreAlertQueryService,
    SreHealthQueryService,
    SreIncidentQueryService,
    SreRunbookQueryService,
    SreSLOQueryService,
    connect_reader,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from worker.postgres.queries import Page

_CODES: Final = ("PAGE_TOKEN_INVALID",)
_LISTS: Final = ("slo", "incident", "runbook", "alert", "fleetstate")
_ROW: Final = """
INSERT INTO slo (tenant_id, slo_id, created_at, version, updated_at, name, description, owner, scope, target, "window", sli_good, sli_total,
    budgeting_method, budget_status, current_budget_remaining, budget_consumed, counted_good, counted_total, counted_slices,
    counted_bad_slices, counted_ratios)
VALUES (%s, %s, '2026-01-01', 1, '2026-01-01', 'n', '', 'o', 's', 99, '7d', 'g', 't', 'occurrences', 'no_data', 100, 0, 0, 0, 0, 0, 0)
"""


def check(data: bytes) -> None:
    check_token(_reader(), data)


def check_token(connection: psycopg.Connection[Any], data: bytes) -> None:
    if len(data) < 2:
        return
    name = _LISTS[data[0] % len(_LISTS)]
    token = data[2:].decode(errors="surrogateescape")
    if data[1] % 2:
        digest = sha256("\n".join((name, "acme", *token.split("_", 1))).encode(errors="replace")).hexdigest()[:16]
        token = f"{digest}_{token}"
    try:
        page = _list_of(connection, name)(token)
    except QueryError as error:
        if error.code not in _CODES:
            raise
        return
    assert all(item.tenant_id == "acme" for item in page.items)


def _list_of(connection: psycopg.Connection[Any], name: str) -> Callable[[str], Page[Any]]:
    slos, incidents = SreSLOQueryService(connection), SreIncidentQueryService(connection)
    lists: dict[str, Callable[[str], Page[Any]]] = {
        "slo": partial(slos.list_slos, "acme", 10),
        "incident": partial(incidents.list_open_incidents, "acme", 10),
        "runbook": partial(SreRunbookQueryService(connection).list_runbooks, "acme", 10),
        "alert": partial(SreAlertQueryService(connection).list_active_alerts, "acme", None, 10),
        "fleetstate": partial(SreHealthQueryService(connection).get_current_fleet_state, "acme", "production", None, 10),
    }
    return lists[name]


@contextmanager
def rows_of_two_tenants(database: str) -> Iterator[psycopg.Connection[Any]]:
    """A reader of a migrated database, which gets a few rows."""
    with psycopg.connect(database, autocommit=True) as admin:
        for tenant in ("acme", "globex"):
            for number in range(3):
                admin.execute(_ROW.encode(), (tenant, f"slo-{number}"))
    with connect_reader(as_reader(database)) as reader:
        yield reader


@cache
def _reader() -> psycopg.Connection[Any]:
    """On a server of this process's own."""
    stack = ExitStack()
    atexit.register(stack.close)
    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="sre-domain-fuzz-"))
    server = stack.enter_context(running_postgres(Path(directory)))
    migrate(server.dsn)
    make_logins(server.dsn)
    return stack.enter_context(rows_of_two_tenants(server.dsn))


def seeds() -> Iterator[bytes]:
    for number in range(len(_LISTS)):
        yield bytes([number, 1]) + b"1767225600000000_slo-0"
        yield bytes([number, 0]) + b"0123456789abcdef_1767225600000000_0b7c6a52-5d0e-4c1b-9f0e-2a6f5d0c9a11"
    yield b"\x00\x01-99999999999999999_a"
    yield b"\x00\x01999999999999999999_a"
    yield b"\x00\x00\x00"
    yield b"\x00\x00' OR 1=1 --"
    yield b"\x00\x00\xff\xed\xa0\x80"
