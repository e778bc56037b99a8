"""`sre-domain query` over a real PostgreSQL: what it prints, and with which status it ends."""

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner, Result

from tests.support.roles import as_reader
from worker.cli.query import app

Query = Callable[..., Result]

INSERT = b"""
    INSERT INTO slo VALUES (
        'acme', %s, 3, %s, '2026-03-02T12:00:00.5+05:30', 'Kasse \xe2\x82\xac', '', 'payments', 'prod-eu', 99.9, '28d', 'status < 500',
        'all', 'timeslices', 300, 99, 'exhausted', -4.166666, 104.166666, '2026-03-02T00:05Z', NULL, 1, 2, 1, 1, 0
    )
"""


@pytest.fixture
def query(database: str, monkeypatch: pytest.MonkeyPatch) -> Query:
    monkeypatch.setenv("SRE_DATABASE_URL", "host=127.0.0.1 port=1")
    monkeypatch.setenv("SRE_QUERY_DATABASE_URL", as_reader(database))
    monkeypatch.setenv("SRE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    return lambda *arguments: CliRunner().invoke(app, arguments)


@pytest.fixture
def five_slos(database: str) -> None:
    with psycopg.connect(database) as connection:
        for number in range(5):
            connection.execute(INSERT, (f"checkout-{number}", f"2026-03-01T00:00:0{number}Z"))


def one_line(result: Result, code: str) -> bool:
    return result.stdout == "" and result.stderr.startswith(f"{code}: ") and result.stderr.count("\n") == 1


@pytest.mark.usefixtures("five_slos")
def test_get_slo_prints_one_object(query: Query) -> None:
    result = query("get-slo", "checkout-1", "--tenant", "acme")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {
        "tenant_id": "acme",
        "slo_id": "checkout-1",
        "version": 3,
        "created_at": "2026-03-01T00:00:01.000000Z",
        "updated_at": "2026-03-02T06:30:00.500000Z",
        "name": "Kasse €",
        "description": "",
        "owner": "payments",
        "scope": "prod-eu",
        "target": "99.900000",
        "window": "28d",
        "sli_spec": {
            "good": "status < 500",
            "total": "all",
            "budgeting_method": "timeslices",
            "slice_seconds": 300,
            "slice_target": "99.000000",
        },
        "budget_status": "exhausted",
        "current_budget_remaining": "-4.166666",
        "budget_consumed": "104.166666",
        "as_of": "2026-03-02T00:05:00.000000Z",
        "measured_from": None,
    }


def test_get_slo_that_does_not_exist_is_status_1(query: Query) -> None:
    result = query("get-slo", "checkout\x1b[2J\ud800", "--tenant", "acme")
    assert result.exit_code == 1
    assert one_line(result, "SLO_NOT_FOUND")
    assert "\x1b" not in result.stderr


@pytest.mark.usefixtures("five_slos")
def test_list_slos_walks_through_all_pages(query: Query) -> None:
    pages: list[dict[str, Any]] = []
    after: list[str] = []
    while not pages or pages[-1]["next"] is not None:
        result = query("list-slos", "--tenant", "acme", "--page-size", "2", *after)
        assert (result.exit_code, result.stderr) == (0, "")
        pages.append(json.loads(result.stdout))
        after = ["--after", pages[-1]["next"]]
    assert [[slo["slo_id"][-1] for slo in page["items"]] for page in pages] == [["0", "1"], ["2", "3"], ["4"]]


def test_list_slos_of_a_tenant_without_any_is_an_empty_page(query: Query) -> None:
    result = query("list-slos", "--tenant", "initech")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"items": [], "next": None})


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("get-slo", "checkout"), "TENANT_REQUIRED"),
        (("get-slo", "checkout", "--tenant", ""), "TENANT_REQUIRED"),
        (("list-slos",), "TENANT_REQUIRED"),
        (("list-slos", "--tenant", "acme", "--page-size", "0"), "PAGE_SIZE_INVALID"),
        (("list-slos", "--tenant", "acme", "--page-size", "201"), "PAGE_SIZE_INVALID"),
        (("list-slos", "--tenant", "acme", "--page-size", "9" * 30), "PAGE_SIZE_INVALID"),
        (("list-slos", "--tenant", "acme", "--after", "x"), "PAGE_TOKEN_INVALID"),
        (("list-slos", "--tenant", "acme", "--after", ""), "PAGE_TOKEN_INVALID"),
    ],
)
def test_a_wrong_argument_is_one_line_that_begins_with_the_code(query: Query, arguments: tuple[str, ...], code: str) -> None:
    result = query(*arguments)
    assert result.exit_code == 2
    assert one_line(result, code)


@pytest.mark.parametrize(
    "url",
    ["host=127.0.0.1 port=1 user=x dbname=x", "postgresql://x:secret@127.0.0.1:1/x", "host=/nonexistent dbname=x"],
)
def test_a_database_that_is_away_is_one_line(query: Query, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("SRE_QUERY_DATABASE_URL", url)
    for arguments in (("get-slo", "checkout", "--tenant", "acme"), ("list-slos", "--tenant", "acme")):
        result = query(*arguments)
        assert result.exit_code == 2
        assert one_line(result, "DATABASE_ERROR")
        assert "secret" not in result.stderr


def test_a_database_without_the_schema_is_one_line(query: Query, database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("DROP SCHEMA sre_query CASCADE")
    result = query("get-slo", "checkout", "--tenant", "acme")
    assert result.exit_code == 2
    assert one_line(result, "DATABASE_ERROR")


def test_a_missing_setting_is_named(query: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SRE_DATABASE_URL")
    result = query("list-slos", "--tenant", "acme")
    assert result.exit_code == 2
    assert one_line(result, "SETTINGS_INVALID")
    assert "SRE_DATABASE_URL" in result.stderr


@pytest.mark.usefixtures("five_slos")
def test_a_version_that_is_not_there_is_a_line_with_its_code(query: Query) -> None:
    arguments = ("get-slo", "checkout-1", "--tenant", "acme", "--wait-seconds", "0", "--min-version")
    assert json.loads(query(*arguments, "3").stdout)["version"] == 3
    for version, code in (("4", "NOT_YET"), ("0", "MIN_VERSION_INVALID"), ("9" * 40, "NOT_YET")):
        result = query(*arguments, version)
        assert result.exit_code == 2
        assert one_line(result, code)


def test_a_tenant_that_is_not_granted_is_a_line_with_its_code(query: Query, database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE sre_query.reader_tenant SET tenant = 'globex'")
    for arguments in (("get-slo", "checkout"), ("list-slos",), ("get-current-fleet-state", "production")):
        result = query(*arguments, "--tenant", "acme")
        assert result.exit_code == 2
        assert one_line(result, "TENANT_MISMATCH")


@pytest.mark.usefixtures("five_slos")
def test_what_a_terminal_would_obey_is_printed_as_an_escape(query: Query, database: str) -> None:
    name = "\x1b]0;x\x07 \x9b2J \u202eevil \U000e0041 \u2028 Kasse €"
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE slo SET name = %s", [name])
    printed = query("get-slo", "checkout-1", "--tenant", "acme").stdout
    assert printed.removesuffix("\n").isprintable()
    assert "Kasse €" in printed
    assert json.loads(printed)["name"] == name
