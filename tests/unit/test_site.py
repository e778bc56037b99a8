"""The site builds strictly (every link and anchor leads somewhere, every page is in a menu) and loads nothing from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from mkdocs.exceptions import Abort

from handbook.__main__ import build_site
from handbook.commands import commands
from handbook.pages import reference
from tests.support.avro_files import V1
from tests.support.blocks import PAGES, ROOT
from worker.domain.rejection import RejectionCode

if TYPE_CHECKING:
    from pathlib import Path

FETCHED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_site(tmp_path_factory.mktemp("docs"))


class Fetched(HTMLParser):
    """What a browser loads to show a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in FETCHED and given.get("rel") != "canonical":
            self.urls += filter(None, [given.get(FETCHED[tag])])


def test_a_page_loads_nothing_from_elsewhere_and_what_it_loads_is_there(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    missing = []
    for page in pages:
        urls = Fetched(page).urls
        assert len(urls) > 3
        base = site if page.name == "404.html" else page.parent
        missing += [(page.name, url) for url in urls if not (base / re.sub(r"[?#].*", "", url).lstrip("/")).exists()]
    assert missing == []


def test_a_link_or_an_anchor_that_leads_nowhere_and_a_page_in_no_menu_end_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lay_out_two_pages(directory: Path) -> None:
        directory.mkdir()
        (directory / "README.md").write_text("[a](gone.md) [b](#nowhere)")
        (directory / "lost.md").write_text("# Lost")

    monkeypatch.setattr("handbook.__main__.lay_out", lay_out_two_pages)
    with pytest.raises(Abort):
        build_site(tmp_path)
    for fault in ("gone.md", "#nowhere", "lost.md"):
        assert fault in caplog.text


def test_a_stylesheet_loads_nothing_from_elsewhere(site: Path) -> None:
    sheets = [sheet.read_text(encoding="utf-8") for sheet in site.rglob("*.css")]
    assert sheets
    assert [url for sheet in sheets for url in re.findall(r"url\(['\"]?((?:https?:)?//[^)]*)", sheet)] == []


def test_the_pages_that_look_for_a_server_find_the_ones_that_come_along(site: Path) -> None:
    assert (site / "search" / "search_index.js").exists()
    assert "mermaid" not in "".join(page.read_text(encoding="utf-8") for page in site.rglob("*.html"))  # it would be fetched


def test_the_reference_has_every_command_message_and_code() -> None:
    pages = reference()
    titles = {page: re.findall(r"^##+ (.*)$", text, re.MULTILINE) for page, text in pages.items()}
    assert titles["cli.md"] == [words for words, _ in commands()]
    assert len(titles["cli.md"]) > 30
    assert {path.stem for path in V1.glob("*/*.avsc")} - set(titles["messages.md"]) == set()
    assert re.findall(r"^\| `([A-Z_]+)` \|", pages["codes.md"], re.MULTILINE) == sorted(RejectionCode)


def test_every_code_leads_to_a_rule() -> None:
    assert re.findall(r"^\| `([A-Z_]+)` \|.*\|  \|$", reference()["codes.md"], re.MULTILINE) == []


@pytest.mark.parametrize("page", PAGES)
def test_no_text_is_taken_for_a_tag_and_vanishes(page: str) -> None:
    text = re.sub(r"^ *```.*?^ *```$|`[^`]*`", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"<\w[^>\n]*", text) == []


def test_no_bar_in_a_table_shows_its_backslash(site: Path) -> None:
    pages = [page for page in site.rglob("*.html") if "\\|" in page.read_text(encoding="utf-8")]
    assert pages == []
