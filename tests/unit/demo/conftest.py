from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.records import CODEC, NOW
from tests.unit.demo.in_memory import perform
from worker.demo.figures import read_figures
from worker.demo.story import Story, tell

if TYPE_CHECKING:
    from worker.audit import Evidence
    from worker.demo.run import Observed


@pytest.fixture(scope="session")
def story() -> Story:
    return tell(read_figures(), NOW, CODEC)


@pytest.fixture(scope="session")
def performance(story: Story) -> tuple[Observed, Evidence]:
    """Of the whole story; not to be changed."""
    return perform(story)


@pytest.fixture
def observed(performance: tuple[Observed, Evidence]) -> Observed:
    return performance[0]


@pytest.fixture
def evidence(performance: tuple[Observed, Evidence]) -> Evidence:
    return performance[1]
