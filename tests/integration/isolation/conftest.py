"""One database for all tests of isolation, with rows of two tenants: what a test changes, it rolls back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.isolation.parties import VICTIM, add_rows_of_the_victim_alone
from tests.support.two_tenants import TwoTenants, two_tenants

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="package")
def made(server: str, template: str) -> Iterator[TwoTenants]:
    with two_tenants(server, template) as made:
        add_rows_of_the_victim_alone(made.superuser, VICTIM)
        yield made
