"""Every block of code in the pages is run by a test, parsed, or has a reason not to be."""

import json
import re
import tomllib

import pytest
import yaml

from tests.support.blocks import PAGES, PARSED, ROOT, RUN, SHOWN, Block, blocks_of
from tests.support.code_blocks import NOT_WALKED

BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def where(block: Block) -> str:
    return f"{block.page}:{block.line}"


@pytest.mark.parametrize("page", PAGES)
def test_every_fence_of_a_page_is_found(page: str) -> None:
    fences = len(re.findall(r"^\s*```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE))
    found = sum(2 if block.output is None else 4 for block in BLOCKS if block.page == page)
    assert found == fences


@pytest.mark.parametrize("block", BLOCKS, ids=where)
def test_a_block_says_what_it_is(block: Block) -> None:
    assert block.language in (*RUN, *PARSED, SHOWN)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in PARSED], ids=where)
def test_a_block_of_data_can_be_parsed(block: Block) -> None:
    match block.language:
        case "json":
            json.loads(block.code)
        case "yaml":
            assert list(yaml.safe_load_all(block.code)) != [None]
        case "toml":
            tomllib.loads(block.code)


@pytest.mark.parametrize(("page", "beginning"), NOT_WALKED)
def test_what_is_not_run_is_one_block(page: str, beginning: str) -> None:
    assert [block.page for block in BLOCKS if block.language in RUN and block.code.startswith(beginning)].count(page) == 1


def test_what_is_not_run_is_little() -> None:
    assert len(NOT_WALKED) < len([block for block in BLOCKS if block.language in RUN]) / 3


@pytest.mark.parametrize("test", sorted({test for reason in NOT_WALKED.values() for test in re.findall(r"tests/[\w/]+\.py", reason)}))
def test_a_test_that_is_named_in_its_place_exists(test: str) -> None:
    assert (ROOT / test).exists()
