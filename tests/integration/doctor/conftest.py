"""A set-up in good order, one check of which is asked at a time."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest

from tests.support.roles import as_reader, as_relay, as_writer
from worker.doctor.checks import checks, the_clock
from worker.doctor.examination import examine

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.doctor.clocks import Now
    from worker.doctor.finding import Finding

    Ask = Callable[..., list[Finding]]


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str | None], None]:
    """Sets a variable, or removes it."""
    for name in [name for name in os.environ if name.startswith("SRE_") and name != "SRE_TEST_DATABASE_URL"]:
        monkeypatch.delenv(name)

    def change(name: str, value: str | None) -> None:
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)

    change("SRE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    change("SRE_DATABASE_URL", "postgresql://127.0.0.1:1/nothing")
    return change


@pytest.fixture
def slot(database: str, setting: Callable[[str, str | None], None]) -> str:
    """The name of the relay's slot, which is not made yet; every URL leads to the test's own database."""
    name = f"slot_{uuid4().hex}"
    setting("SRE_DATABASE_URL", as_writer(database))
    setting("SRE_RELAY_DATABASE_URL", as_relay(database))
    setting("SRE_QUERY_DATABASE_URL", as_reader(database))
    setting("SRE_MIGRATE_DATABASE_URL", database)
    setting("SRE_RELAY_SLOT", name)
    return name


@pytest.fixture
def change(database: str) -> Callable[..., Any]:
    """Breaks something in the test's database, as a superuser would."""

    def execute(*statements: str) -> None:
        with psycopg.connect(database, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    return execute


@pytest.fixture
def ask() -> Ask:
    """What one check finds in the set-up that the environment names by now, whatever else is broken."""

    def findings(name: str, now: Now = the_clock) -> list[Finding]:
        (check,) = [check for check in checks((), now) if check.name == name]
        return [finding for _, finding in examine([replace(check, needs=())])]

    return findings
