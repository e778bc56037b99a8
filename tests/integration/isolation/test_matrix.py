"""Role by table by attack: each attack gets through under a superuser's login and under none of the others. Writes build/isolation.json."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Literal

from tests.integration.isolation.attacks import (
    Attack,
    Table,
    beside_the_operations,
    by_the_operations,
    gets_through,
    on,
    on_the_database,
    tables,
)
from tests.integration.isolation.parties import OWN, SECRET, VICTIM, Party, attackers, session, stranger
from worker.devstack.logins import RELAY, WRITER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.two_tenants import TwoTenants

RESULT: Final = Path(__file__).parents[3] / "build" / "isolation.json"
MEMBERSHIP: Final = {WRITER: "sre_writer", RELAY: "sre_relay"}
OPEN_TO_WRITERS: Final = {"intake_position": {"look", "lock", "update", "insert", "insert where nothing is"}, "signing_key": {"look"}}

_SEEN: Final = {
    *("count", "lock", "lock as a reference does", "read", "read all", "read as a text", "read the greatest", "read in an error"),
    *("read by place", "read in a cursor", "copy out"),
}
_SAVED: Final = {"insert", "insert where nothing is", "insert over it", "update", "update all and see", "merge", "stop its users"}
# By what the worker's statements do; in the alone table a row may go.
WRITTEN: Final = {
    **dict.fromkeys(("alert", "fleetstate", "healthcheck", "incident", "runbook", "runbook_execution", "slo"), _SEEN | _SAVED),
    "incident_timeline": {"insert", "insert where nothing is"},
    "inbox": _SEEN - {"lock", "lock as a reference does"} | {"insert", "insert where nothing is"},
    "outbox": set(),
    "sli_ledger": _SEEN | _SAVED | {"delete", "delete all and see"},
}


@pytest.fixture(scope="module")
def parties(made: TwoTenants) -> Iterator[dict[str, Party]]:
    with stranger(made) as name:
        yield attackers(made, name)


@pytest.fixture(scope="module")
def found(made: TwoTenants) -> list[Table]:
    return tables(made.superuser)


@pytest.fixture(scope="module")
def attacks(made: TwoTenants, found: list[Table]) -> list[tuple[Table | None, Attack]]:
    """Those that a superuser can make."""
    database = str(conninfo_to_dict(made.superuser)["dbname"])
    wide = [*on_the_database(database, made.readers), *beside_the_operations()]
    return [*((table, attack) for table in found for attack in on(table)), *((None, attack) for attack in wide)]


def may(party: Party, table: Table | None, attack: Attack) -> bool:
    """Whether it is this party's job, and no attack."""
    group = MEMBERSHIP.get(party.login, "sre_reader" if party.login.startswith("reader") else "")
    if table is None:
        return attack.name == f"become {group}"
    if group == "sre_relay":
        return attack.only_reads and table.of_tenants and table.name == table.parent and table.name != "signing_key"
    if group == "sre_writer":
        # Whoever may update a table may lock it: that stops others, and shows nothing.
        stops = (
            attack.name == "stop its users" and table.name == table.parent and table.name not in {"inbox", "outbox", "incident_timeline"}
        )
        return (stops and table.schema == "public") or attack.name in OPEN_TO_WRITERS.get(table.name, ())
    return False


def test_every_attack_gets_through_where_nothing_is_in_its_way(made: TwoTenants, attacks: list[tuple[Table | None, Attack]]) -> None:
    """Or its refusal below would show nothing."""
    with somebody_who_asks(made), session(made, Party("superuser", "postgres")) as connection:
        harmless = [(table and table.name, attack.name) for table, attack in attacks if not gets_through(connection, attack)]
    with session(made, Party("the victim's reader", made.readers[VICTIM])) as connection:
        harmless += [(None, attack.name) for attack in by_the_operations(VICTIM) if not gets_through(connection, attack)]
    assert harmless == []


def test_no_attack_gets_through(made: TwoTenants, parties: dict[str, Party], attacks: list[tuple[Table | None, Attack]]) -> None:
    cases: Counter[str] = Counter()
    through = []
    tried = [*attacks, *((None, attack) for attack in by_the_operations(OWN))]
    with somebody_who_asks(made):
        for party in parties.values():
            with session(made, party) as connection:
                for table, attack in tried:
                    if not may(party, table, attack):
                        cases[party.name] += 1
                        if gets_through(connection, attack):
                            through.append((party.name, table and table.name, attack.name))
    total = cases.total()
    RESULT.parent.mkdir(exist_ok=True)
    result = {"cases": total, "refused": total - len(through), "by_party": dict(cases), "got_through": through}
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    assert through == []
    assert total > 8_000


@contextmanager
def somebody_who_asks(made: TwoTenants) -> Iterator[None]:
    """Another session, whose last statement has the secret."""
    with psycopg.connect(made.superuser) as other:
        other.execute(SQL("SELECT {}").format(Literal(SECRET)))
        yield


@pytest.mark.parametrize("table", sorted(WRITTEN))
def test_a_writer_sees_and_writes_the_tenants_of_its_batch(made: TwoTenants, found: list[Table], table: str) -> None:
    """The victim's, when the batch names it: what was refused was refused for the tenant."""
    (its,) = (one for one in found if one.name == table)
    with session(made, Party("the victim's writer", WRITER, {"sre.tenants": f"{{{OWN},{VICTIM}}}"})) as connection:
        assert {attack.name for attack in on(its) if gets_through(connection, attack)} == WRITTEN[table]


def test_the_relay_reads_all_tenants(made: TwoTenants, found: list[Table]) -> None:
    with session(made, Party("relay", RELAY)) as connection:
        for table in found:
            if table.of_tenants and table.name == table.parent and table.name != "signing_key":
                reading = [attack for attack in on(table) if attack.only_reads]
                assert [attack.name for attack in reading if not gets_through(connection, attack)] == []
