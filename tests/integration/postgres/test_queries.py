"""The read side over a real PostgreSQL: SreSLOQueryService and the SQL functions under it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from tests.support.reads import rows_read
from tests.support.roles import as_reader
from worker.domain.slo import SliSpec
from worker.postgres.queries import Page, QueryError, SLOView, SreSLOQueryService, connect_reader

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
FULL_ROW: dict[str, Any] = {
    "version": 7,
    "updated_at": JANUARY + timedelta(days=3, microseconds=1),
    "name": "Checkout availability",
    "description": "",
    "owner": "payments",
    "scope": "prod-eu/payments/checkout",
    "target": Decimal("99.900000"),
    "window": "28d",
    "sli_good": "status < 500",
    "sli_total": "all requests",
    "budgeting_method": "occurrences",
    "slice_seconds": None,
    "slice_target": None,
    "budget_status": "no_data",
    "current_budget_remaining": Decimal("100.000000"),
    "budget_consumed": Decimal("0.000000"),
    "as_of": None,
    "measured_from": None,
    "counted_good": 0,
    "counted_total": 0,
    "counted_slices": 0,
    "counted_bad_slices": 0,
    "counted_ratios": 0,
}


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def service(database: str) -> Iterator[SreSLOQueryService]:
    with connect_reader(as_reader(database)) as connection:
        yield SreSLOQueryService(connection)


def insert_slo(
    connection: psycopg.Connection[Any], slo_id: str, created_at: datetime = JANUARY, tenant: str = "acme", **columns: object
) -> None:
    row = {"tenant_id": tenant, "slo_id": slo_id, "created_at": created_at} | FULL_ROW | columns
    names, values = ", ".join(f'"{name}"' for name in row), ", ".join(f"%({name})s" for name in row)
    connection.execute(f"INSERT INTO slo ({names}) VALUES ({values})".encode(), row)  # noqa: S608 - the names are this file's


def ids(page: Page[SLOView]) -> list[str]:
    return [slo.slo_id for slo in page.items]


def code_of(call: Any) -> str:  # noqa: ANN401 - any call
    with pytest.raises(QueryError) as raised:
        call()
    assert str(raised.value).startswith(f"{raised.value.code}: ")
    return raised.value.code


def test_every_attribute_is_read_exactly(connection: psycopg.Connection[Any], service: SreSLOQueryService) -> None:
    service.connection.execute("SET TIME ZONE 'Asia/Kolkata'")
    created_at = datetime(2026, 1, 1, 23, 59, 59, 999999, tzinfo=UTC)
    insert_slo(
        connection,
        "checkout",
        created_at,
        description="quotes ' \" \\ and\nlines,\t日本 🙂 %s {}",
        target=Decimal("99.999999"),
        budgeting_method="timeslices",
        slice_seconds=300,
        slice_target=Decimal("0.000001"),
        budget_status="exhausted",
        current_budget_remaining=Decimal("-999999999899.000001"),
        budget_consumed=Decimal("999999999999.000001"),
        as_of=JANUARY + timedelta(days=2, minutes=5),
        measured_from=JANUARY + timedelta(microseconds=1),
        counted_total=9,
    )
    slo = service.get_slo("acme", "checkout")
    assert slo == SLOView(
        tenant_id="acme",
        slo_id="checkout",
        version=7,
        created_at=created_at,
        updated_at=JANUARY + timedelta(days=3, microseconds=1),
        name="Checkout availability",
        description="quotes ' \" \\ and\nlines,\t日本 🙂 %s {}",
        owner="payments",
        scope="prod-eu/payments/checkout",
        target=Decimal("99.999999"),
        window="28d",
        sli_spec=SliSpec(
            good="status < 500",
            total="all requests",
            budgeting_method="timeslices",
            slice_seconds=300,
            slice_target=Decimal("0.000001"),
        ),
        budget_status="exhausted",
        current_budget_remaining=Decimal("-999999999899.000001"),
        budget_consumed=Decimal("999999999999.000001"),
        as_of=JANUARY + timedelta(days=2, minutes=5),
        measured_from=JANUARY + timedelta(microseconds=1),
    )
    assert {time.utcoffset() for time in (slo.created_at, slo.updated_at, slo.as_of, slo.measured_from) if time} == {timedelta(0)}
    assert service.list_slos("acme").items == (slo,)


def test_percents_keep_their_six_places(connection: psycopg.Connection[Any], service: SreSLOQueryService) -> None:
    insert_slo(
        connection, "checkout", target=99, current_budget_remaining=40, budget_consumed=60, budget_status="available", counted_total=1
    )
    slo = service.get_slo("acme", "checkout")
    assert slo is not None
    assert [str(slo.target), str(slo.current_budget_remaining), str(slo.budget_consumed)] == ["99.000000", "40.000000", "60.000000"]


def test_an_unknown_id_is_none(service: SreSLOQueryService) -> None:
    assert service.get_slo("acme", "checkout") is None


def test_another_tenants_slo_is_not_found_and_not_listed(connection: psycopg.Connection[Any], service: SreSLOQueryService) -> None:
    insert_slo(connection, "checkout", tenant="globex", name="theirs")
    insert_slo(connection, "search", tenant="acme")
    assert service.get_slo("acme", "checkout") is None
    assert service.get_slo("globex", "search") is None
    assert ids(service.list_slos("acme")) == ["search"]
    insert_slo(connection, "checkout", tenant="acme", name="ours")
    assert [slo.name for tenant in ("acme", "globex") if (slo := service.get_slo(tenant, "checkout"))] == ["ours", "theirs"]


@pytest.mark.parametrize(
    "slo_id", ["", "Checkout", "check%", "_", "checkout ", "checkout\0", "\ud800", "'; DROP TABLE slo; --", "x" * 1_000_000]
)
def test_a_hostile_id_is_not_found(connection: psycopg.Connection[Any], service: SreSLOQueryService, slo_id: str) -> None:
    insert_slo(connection, "checkout")
    assert service.get_slo("acme", slo_id) is None
    assert service.get_slo("acme", "checkout") is not None


def test_neither_ledger_nor_its_sums_are_returned(service: SreSLOQueryService) -> None:
    for call in (b"sre_query.get_slo('acme', 'checkout')", b"sre_query.list_slos('acme')"):
        names = {column.name for column in service.connection.execute(b"SELECT * FROM " + call).description or ()}
        assert names == {"tenant_id", "slo_id", "created_at", "page_token"} | {name for name in FULL_ROW if not name.startswith("counted_")}


@pytest.mark.parametrize("page_size", [1, 7, 40, 50, 120, 200])
def test_pages_hold_each_row_once_while_rows_are_inserted_and_changed(
    connection: psycopg.Connection[Any], service: SreSLOQueryService, page_size: int
) -> None:
    # Four rows an instant, ids against the grain: ties are broken by id.
    held = [(JANUARY + timedelta(microseconds=number // 4), f"slo-{(number * 7919) % 120:03}") for number in range(120)]
    for created_at, slo_id in held:
        insert_slo(connection, slo_id, created_at)
    insert_slo(connection, "theirs", tenant="globex")
    seen: list[str] = []
    after = None
    pages = 0
    while True:
        page = service.list_slos("acme", page_size, after)
        seen += ids(page)
        pages += 1
        assert pages <= 150, "pages repeat themselves"
        insert_slo(connection, f"before-{pages}", JANUARY - timedelta(days=1, seconds=pages))
        if pages <= 3:
            insert_slo(connection, f"later-{pages}", JANUARY + timedelta(days=pages))
        connection.execute("UPDATE slo SET version = version + 1, updated_at = now() WHERE tenant_id = 'acme'")
        if page.next is None:
            break
        after = page.next
    later = [f"later-{number}" for number in range(1, min(pages - 1, 3) + 1)]
    assert seen == [slo_id for _, slo_id in sorted(held)] + later


def test_a_page_that_is_not_full_is_the_last(connection: psycopg.Connection[Any], service: SreSLOQueryService) -> None:
    for number in range(4):
        insert_slo(connection, f"slo-{number}")
    first = service.list_slos("acme", 3)
    assert (ids(first), first.next is None) == (["slo-0", "slo-1", "slo-2"], False)
    assert service.list_slos("acme", 3, first.next) == Page(service.list_slos("acme").items[3:], None)
    assert service.list_slos("acme", 4, service.list_slos("acme", 4).next) == Page((), None)
    assert service.list_slos("initech") == Page((), None)


def test_fifty_are_a_page_unless_asked_otherwise(connection: psycopg.Connection[Any], service: SreSLOQueryService) -> None:
    for number in range(51):
        insert_slo(connection, f"slo-{number}")
    assert len(service.list_slos("acme").items) == 50
    assert service.connection.execute("SELECT count(*) FROM sre_query.list_slos('acme')").fetchone() == (50,)


def test_a_token_is_exact_to_the_microsecond_in_any_year(connection: psycopg.Connection[Any], service: SreSLOQueryService) -> None:
    connection.execute("SET TIME ZONE 'UTC'")
    instants = [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(2255, 6, 5, 23, 47, 34, 740993, tzinfo=UTC),  # a double can't hold its microseconds since 1970
        datetime(2255, 6, 5, 23, 47, 34, 740994, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999998, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ]
    for number, instant in enumerate(instants):
        insert_slo(connection, f"slo-{number}", instant)
    seen: list[datetime] = []
    after = None
    for _ in instants:
        page = service.list_slos("acme", 1, after)
        seen += [slo.created_at for slo in page.items]
        after = page.next
    assert seen == instants
    assert service.list_slos("acme", 1, after).items == ()


def token(connection: psycopg.Connection[Any], *arguments: object) -> str:
    row = connection.execute("SELECT sre_query.page_token(%s::text, %s::text, %s::timestamptz, %s::text)", arguments).fetchone()
    assert row is not None
    return str(row[0])


def test_a_token_of_another_tenant_or_list_is_refused(connection: psycopg.Connection[Any], service: SreSLOQueryService) -> None:
    insert_slo(connection, "checkout")
    insert_slo(connection, "checkout", tenant="globex")
    own = service.list_slos("acme", 1).next
    assert own == token(connection, "slo", "acme", JANUARY, "checkout")
    assert service.list_slos("acme", 1, own).items == ()
    assert code_of(lambda: service.list_slos("globex", 1, own)) == "PAGE_TOKEN_INVALID"
    other_list = token(connection, "runbook", "acme", JANUARY, "checkout")
    assert code_of(lambda: service.list_slos("acme", 1, other_list)) == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "x",
        "{digest}_{micros}_checkoutx",
        "{digest}_{micros}_checkout\n",
        " {digest}_{micros}_checkout",
        "{digest}_{micros}_",
        "{digest}_{micros}_search",
        "{digest}_{micros}_CHECKOUT",
        "{digest}_1{micros}_checkout",
        "{digest}_0{micros}_checkout",
        "{digest}_-{micros}_checkout",
        "{digest}_\u0661_checkout",
        "{digest}_" + "9" * 30 + "_checkout",
        "{digest}_" + "9" * 18 + "_checkout",
        "{digest}_-" + "9" * 17 + "_checkout",
        "0000000000000000_{micros}_checkout",
        "{digest}_{micros}_" + "x" * 65,
        "{digest}_{micros}_checkout\0",
        "{digest}_{micros}_checkout\ud800",
        "'; DROP TABLE slo; --",
        "x" * 1_000_000,
    ],
)
def test_a_bad_token_is_refused(connection: psycopg.Connection[Any], service: SreSLOQueryService, bad: str) -> None:
    insert_slo(connection, "checkout")
    good = service.list_slos("acme", 1).next
    assert good is not None
    digest, micros, _ = good.split("_")
    assert service.list_slos("acme", 1, f"{digest}_{micros}_checkout").items == ()
    assert code_of(lambda: service.list_slos("acme", 1, bad.format(digest=digest, micros=micros))) == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize("page_size", [0, -1, 201, 2**31, -(2**63), 10**30])
def test_a_page_size_out_of_range_is_refused(service: SreSLOQueryService, page_size: int) -> None:
    assert code_of(lambda: service.list_slos("acme", page_size)) == "PAGE_SIZE_INVALID"


@pytest.mark.parametrize("tenant", ["", " ", "a b", "acme\n", "-acme", "acmé", "acme\0", "\ud800", "a" * 64, "'; DROP TABLE slo; --"])
def test_a_tenant_that_is_absent_or_malformed_is_refused(service: SreSLOQueryService, tenant: str) -> None:
    assert code_of(lambda: service.get_slo(tenant, "checkout")) == "TENANT_REQUIRED"
    assert code_of(lambda: service.list_slos(tenant)) == "TENANT_REQUIRED"


@pytest.mark.parametrize(
    ("call", "sqlstate", "code"),
    [
        (b"get_slo(NULL, 'checkout')", "SRE01", "TENANT_REQUIRED"),
        (b"get_slo('', 'checkout')", "SRE01", "TENANT_REQUIRED"),
        (b"list_slos(NULL)", "SRE01", "TENANT_REQUIRED"),
        (b"list_slos('', 0, 'x')", "SRE01", "TENANT_REQUIRED"),
        (b"list_slos('acme', NULL)", "SRE02", "PAGE_SIZE_INVALID"),
        (b"list_slos('acme', 0, 'x')", "SRE02", "PAGE_SIZE_INVALID"),
        (b"list_slos('acme', 201)", "SRE02", "PAGE_SIZE_INVALID"),
        (b"list_slos('acme', 50, 'x')", "SRE03", "PAGE_TOKEN_INVALID"),
    ],
)
def test_the_functions_raise_the_first_code_in_sql(service: SreSLOQueryService, call: bytes, sqlstate: str, code: str) -> None:
    with pytest.raises(psycopg.Error, match=f"^{code}: ") as raised:
        service.connection.execute(b"SELECT * FROM sre_query." + call)
    assert raised.value.sqlstate == sqlstate


def test_a_query_is_a_transaction_of_its_own(connection: psycopg.Connection[Any], service: SreSLOQueryService) -> None:
    insert_slo(connection, "checkout")
    assert code_of(lambda: service.get_slo("", "checkout")) == "TENANT_REQUIRED"
    assert service.get_slo("acme", "checkout") is not None
    with service.connection.transaction(), pytest.raises(psycopg.ProgrammingError, match="transaction of its own"):
        service.get_slo("acme", "checkout")


def test_the_functions_find_their_tables_whatever_the_search_path(connection: psycopg.Connection[Any], service: SreSLOQueryService) -> None:
    insert_slo(connection, "checkout")
    service.connection.execute("SET search_path = pg_catalog")
    assert service.connection.execute("SELECT slo_id FROM sre_query.get_slo('acme', 'checkout')").fetchall() == [("checkout",)]
    assert service.connection.execute("SELECT slo_id FROM sre_query.list_slos('acme')").fetchall() == [("checkout",)]


@pytest.mark.parametrize("first_page", [True, False])
def test_a_page_is_read_off_the_index_in_its_order(
    database: str,
    connection: psycopg.Connection[Any],
    service: SreSLOQueryService,
    first_page: bool,  # noqa: FBT001
) -> None:
    with connection.transaction():
        for tenant in ("acme", "globex"):
            for number in range(1_000):
                insert_slo(connection, f"slo-{number}", JANUARY + timedelta(seconds=number), tenant)
    connection.execute("ANALYZE slo")
    after = None if first_page else token(connection, "slo", "acme", JANUARY + timedelta(seconds=500), "slo-500")
    read = rows_read(database, service.connection, "slo", lambda: service.list_slos("acme", 20, after))
    assert read == {"slo_by_creation": 20}
