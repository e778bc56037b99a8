"""The contract's test vectors."""

import uuid

import pytest

from worker.domain.ids import uid
from worker.partitioner import partition_of


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("alert", "acme", "prometheus", "7d2d332feada5c59"), "465e4372-b4a6-51a0-a35b-05796e141dcf"),
        (("healthcheck", "acme", "prod-eu/payments/checkout", "argocd"), "966be6c9-a132-5690-805d-f635d1bf6735"),
        (("fact", "acme", "slo", "checkout-availability", "1"), "535c88b9-3f6f-5719-8aed-15edcda97197"),
        (("fact", "acme", "slo", "checkout-availability", "2"), "fe3ea4f2-4189-565f-9fef-f17fb162cbfb"),
        (("rejection", "acme", "0b7c6a52-5d0e-4c1b-9f0e-2a6f5d0c9a11"), "3e333c75-dd9d-5665-89a4-42ff76fdf2c1"),
        (("rejection", "sre.incident.intents.v1", "3", "4711", "1764000000000"), "07d9c069-f01b-5283-9e47-0094a5d5fd5a"),
    ],
)
def test_ids_are_those_of_the_contract(parts: tuple[str, ...], expected: str) -> None:
    assert str(uid(*parts)) == expected
    namespace = uuid.uuid5(uuid.NAMESPACE_URL, "urn:sre-domain:v1")
    assert uid(*parts) == uuid.uuid5(namespace, "\n".join(parts))


def test_the_partition_is_that_of_kafkas_own_partitioner() -> None:
    assert partition_of(b"acme/5f8d2c1e-6b1d-4f0f-8c64-0b8f6a3d2e10", 12) == 3
    assert partition_of(None, 12) == 0
