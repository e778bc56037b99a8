"""The pages about the project name what exists: files, links, commands."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "SECURITY.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/architecture.md",
    "docs/decisions.md",
    "docs/dead-letters.md",
    "docs/doctor.md",
    "docs/debezium.md",
    "docs/guarantees.md",
    "docs/metrics.md",
    "docs/kubernetes.md",
    "docs/queries.md",
    "docs/roles.md",
    "docs/schemas.md",
    "docs/signatures.md",
    "docs/transport.md",
    "docs/upgrading.md",
    "docs/versioning.md",
]
PAGES += ["docs/runbook.md", "examples/README.md"]
EXAMPLES = {"sql/migrations/NNNN_pre_name.sql", "sql/migrations/0012_pre_add_slo_ticket.sql"}  # of what a contributor would make
PATH = re.compile(r"`((?:worker|sql|schemas|tests|bench|docs|examples|k8s)/[\w./]*)`")
PAGES += ["docs/design.md", "docs/operating.md", "docs/publishing.md", "docs/tutorial.md"]


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def anchors(page: str) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize(("page", "link"), [(page, link) for page in PAGES for link in re.findall(r"\]\(([^)]*)\)", text_of(page))])
def test_a_link_leads_somewhere(page: str, link: str) -> None:
    if link.startswith("https://"):
        return
    target, _, anchor = link.partition("#")
    file = ((ROOT / page).parent / target).resolve() if target else ROOT / page
    assert file.exists()
    assert not anchor or anchor in anchors(file.relative_to(ROOT).as_posix())


@pytest.mark.parametrize(("page", "path"), [(page, path) for page in PAGES for path in PATH.findall(text_of(page))])
def test_a_file_that_is_named_exists(page: str, path: str) -> None:
    assert page
    assert (ROOT / path).exists() or path in EXAMPLES


@pytest.mark.parametrize("test", re.findall(r"`(tests/[\w/]+\.py::\w+)`", text_of("docs/guarantees.md") + text_of("SECURITY.md")))
def test_a_promise_is_held_by_a_test_that_exists(test: str) -> None:
    file, name = test.split("::")
    assert re.search(rf"^(async )?def {name}\(", text_of(file), re.MULTILINE)


def test_every_threat_has_a_test_on_its_line() -> None:
    rows = [line for line in text_of("SECURITY.md").partition("## Threats")[2].splitlines() if line.startswith("| ")]
    threats = [row for row in rows if not row.startswith("| Asset ")]
    assert len(threats) > 40
    assert [row for row in threats if "`tests/" not in row.split(" | ")[-1]] == []


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_is_made_by_the_command_that_is_given(lock: str) -> None:
    command = text_of(lock).splitlines()[1].removeprefix("#").strip()
    assert command in text_of("CONTRIBUTING.md").splitlines()


def test_the_changelog_has_an_entry_for_the_version_and_only_the_kinds_of_keep_a_changelog() -> None:
    text = text_of("CHANGELOG.md")
    releases = re.findall(r"^## \[([^\]]+)\](?: - (\d{4}-\d{2}-\d{2}))?$", text, re.MULTILINE)
    assert re.findall(r"^## .*$", text, re.MULTILINE) == [f"## [{name}]{f' - {day}' if day else ''}" for name, day in releases]
    assert [name for name, day in releases if not day] == ["Unreleased"]
    assert releases[0] == ("Unreleased", "")
    version = tomllib.loads(text_of("pyproject.toml"))["project"]["version"]
    unreleased = text.partition("## [Unreleased]")[2].partition("\n## [")[0]
    assert version in {name for name, _ in releases} or "\n- " in unreleased
    numbers = [tuple(map(int, name.split("."))) for name, _ in releases[1:]]
    assert numbers == sorted(numbers, reverse=True)
    kinds = set(re.findall(r"^### (.*)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
