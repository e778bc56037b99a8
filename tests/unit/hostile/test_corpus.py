"""What fuzzing found and kept, once each. Input that needs a database: tests/integration/test_hostile_input.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fuzz import kept_inputs

if TYPE_CHECKING:
    from pathlib import Path

WITH_DATABASE = "cursor"
KEPT = [(name, file) for name in kept_inputs.TARGETS if name != WITH_DATABASE for file in kept_inputs.kept_files(name)]


@pytest.mark.parametrize(("name", "file"), KEPT, ids=[f"{name}-{file.name}" for name, file in KEPT])
def test_a_kept_input_is_harmless(name: str, file: Path) -> None:
    kept_inputs.load(name).check(file.read_bytes())


@pytest.mark.parametrize("name", [name for name in kept_inputs.TARGETS if name != WITH_DATABASE])
def test_the_inputs_that_fuzzing_begins_with_are_harmless(name: str) -> None:
    target = kept_inputs.load(name)
    for data in target.seeds():
        target.check(data)


def test_the_corpus_stays_small() -> None:
    sizes = [file.stat().st_size for name in kept_inputs.TARGETS for file in kept_inputs.kept_files(name)]
    assert sum(sizes) < 512 * 1024
