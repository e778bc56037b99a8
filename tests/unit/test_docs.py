"""What the documents list is what exists."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from tests.support.avro_files import V1
from worker.codec import load_codec
from worker.domain.aggregate import AGGREGATES
from worker.domain.ids import uid
from worker.domain.rejection import RejectionCode
from worker.domain.slo import Budget, RecordSLIWindow, SLOBudgetExhausted
from worker.partitioner import partition_of
from worker.settings import Settings
from worker.topics import topic_specs

DOCS = Path(__file__).parents[2] / "docs"
TESTS = Path(__file__).parents[1]
CONTRACT = (DOCS / "contract.md").read_text(encoding="utf-8")
PAGES = {page: page.read_text(encoding="utf-8") for page in (DOCS / "contract.md", *sorted((DOCS / "aggregates").glob("*.md")))}
SETTINGS = (DOCS / "settings.md").read_text(encoding="utf-8")
FALLS_BACK = {"migrate_database_url", "relay_database_url", "query_database_url"}


def section(title: str) -> str:
    """A chapter of the contract, up to the next one."""
    return CONTRACT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of every table row."""
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in text.splitlines() if line.startswith("|")]


def test_every_setting_is_documented_and_no_other() -> None:
    documented = [cells[0].strip("`") for cells in rows(SETTINGS)[2:]]
    assert documented == [f"SRE_{name.upper()}" for name in Settings.model_fields]


@pytest.mark.parametrize(("name", "setting"), Settings.model_fields.items())
def test_a_setting_has_the_default_that_is_documented(name: str, setting: FieldInfo) -> None:
    default = {cells[0].strip("`"): cells[1] for cells in rows(SETTINGS)}[f"SRE_{name.upper()}"]
    if name in FALLS_BACK:
        assert default == "`SRE_DATABASE_URL`"
    elif setting.is_required():
        assert default == "required"
    else:
        assert default == ("none" if setting.default is None else f"`{setting.default}`")


def test_the_code_tables_list_every_code_and_no_other() -> None:
    assert sorted(cells[0].strip("`") for cells in rows(section("Codes")) if cells[0].startswith("`")) == sorted(RejectionCode)


@pytest.mark.parametrize("code", RejectionCode)
def test_every_code_stands_where_its_rule_is(code: RejectionCode) -> None:
    rules = "".join(PAGES.values()).replace(section("Codes"), "")
    assert f"`{code}`" in rules


@pytest.mark.parametrize("code", RejectionCode)
def test_every_code_is_named_by_a_test_of_its_rule(code: RejectionCode) -> None:
    named = [path.name for path in TESTS.rglob("test_*.py") if re.search(rf"\b{code}\b", path.read_text(encoding="utf-8"))]
    assert named, f"no test names {code}"


def test_every_message_is_described() -> None:
    text = "".join(PAGES.values())
    described = {*re.findall(r"`([A-Za-z]+)`", text), *re.findall(r"\b([A-Z]\w+) \{", text)}
    described |= {f"{name}Requested" for name in described}
    assert {path.stem for path in V1.glob("*/*.avsc")} - described == {"Violation", "RecordHeader"}  # those are spelled out by their fields


@pytest.mark.parametrize("topic", [spec.name for spec in topic_specs(tuple(AGGREGATES))])
def test_every_topic_is_described(topic: str) -> None:
    assert f"`{topic}`" in section("Topics")


@pytest.mark.parametrize(("page", "link"), [(page, link) for page in PAGES for link in re.findall(r"\]\(([^):{]*)\)", PAGES[page])])
def test_a_link_leads_somewhere(page: Path, link: str) -> None:
    file, _, anchor = link.partition("#")
    target = (page.parent / file).resolve() if file else page
    assert target.exists()
    if anchor:
        titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in {title.lower().replace(" ", "-") for title in titles}


def test_the_vectors_of_ids_and_partitions_hold() -> None:
    kinds = {"uid": 0, "partition": 0}
    for given, expected in rows(section("Test vectors"))[2:]:
        if given.startswith("`uid("):
            kind, *parts = re.findall(r'[^",() ]+', given.strip("`").removeprefix("uid"))
            assert f"`{uid(kind, *parts)}`" == expected
            kinds["uid"] += 1
        elif given.startswith("partition of 12 for"):
            assert str(partition_of(given.split("`")[1].encode(), 12)) == expected
            kinds["partition"] += 1
    assert kinds == {"uid": 7, "partition": 2}


def test_the_vectors_of_values_hold() -> None:
    midnight = datetime(2026, 3, 2, tzinfo=UTC)
    budget = Budget(
        budget_status="exhausted",
        current_budget_remaining=Decimal(-50),
        budget_consumed=Decimal(150),
        as_of=midnight.replace(minute=5),
    )
    expected = {
        "RecordSLIWindowRequested": RecordSLIWindow(start=midnight, width_seconds=300, good=985, total=1000),
        "SLOBudgetExhausted": SLOBudgetExhausted(budget=budget),
    }
    values = {cells[0].split("`")[1]: cells[1] for cells in rows(section("Test vectors")) if cells[0].startswith("value of")}
    assert values == {name: f"`{load_codec().encode(name, datum).hex()}`" for name, datum in expected.items()}
