"""Messages of the fact topics: facts that are known, facts that came later, and what is neither."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import pytest

from tests.support.facts import RECOVERED, fact_headers
from tests.support.records import CODEC
from worker.messages import UnknownFact, read_any_fact, read_fact

if TYPE_CHECKING:
    from confluent_kafka import Message


@dataclass
class Given:
    """As confluent-kafka hands it over."""

    headers_: dict[str, str]
    value_: bytes

    def headers(self) -> list[tuple[str, bytes]]:
        return [(name, text.encode()) for name, text in self.headers_.items()]

    def value(self) -> bytes:
        return self.value_

    def topic(self) -> str:
        return "sre.slo.facts.v1"

    def partition(self) -> int:
        return 4

    def offset(self) -> int:
        return 7


def given(name: str = "SLOBudgetRecovered", value: bytes | None = None, aggregate: str = "slo", **headers: str) -> Message:
    encoded = CODEC.encode("SLOBudgetRecovered", RECOVERED) if value is None else value
    return cast("Message", Given(fact_headers(name, 3, aggregate) | headers, encoded))


def test_a_known_fact_is_typed_and_says_where_it_lies() -> None:
    received = read_any_fact(given(), CODEC)
    assert received.fact == RECOVERED
    assert (received.tenant_id, received.aggregate, received.aggregate_id, received.version) == ("acme", "slo", "checkout", 3)
    assert (received.topic, received.partition, received.offset) == ("sre.slo.facts.v1", 4, 7)
    assert read_fact(given(), CODEC) == received


@pytest.mark.parametrize("aggregate", ["slo", "change"])
def test_a_type_that_came_later_is_an_unknown_fact_with_its_version(aggregate: str) -> None:
    received = read_any_fact(given("SLOFactOfTomorrow", b"\xc3\x01" + bytes(8), aggregate), CODEC)
    assert (received.fact, received.version) == (UnknownFact("SLOFactOfTomorrow"), 3)
    with pytest.raises(ValueError, match="is not a fact that this version knows"):
        read_fact(given("SLOFactOfTomorrow", aggregate=aggregate), CODEC)


def test_a_value_that_the_field_types_do_not_know_makes_an_unknown_fact() -> None:
    broken = replace(RECOVERED, budget=replace(RECOVERED.budget, budget_status="new\x01"))
    assert read_any_fact(given(value=CODEC.encode("SLOBudgetRecovered", broken)), CODEC).fact == UnknownFact("SLOBudgetRecovered")


@pytest.mark.parametrize("header", fact_headers("SLOBudgetRecovered", 1))
def test_a_message_without_a_fact_s_headers_is_none(header: str) -> None:
    message = given()
    del cast("Given", message).headers_[header]
    with pytest.raises(ValueError, match=f"{header} is missing"):
        read_any_fact(message, CODEC)


@pytest.mark.parametrize("value", [b"", b"text", b"\xc3\x01" + bytes(8), CODEC.encode("SLOBudgetRecovered", RECOVERED) + b"\x00"])
def test_a_known_type_whose_value_can_not_be_read_to_its_last_byte_is_no_fact(value: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_any_fact(given(value=value), CODEC)


def test_a_version_that_is_no_number_makes_no_fact() -> None:
    with pytest.raises(ValueError, match="three"):
        read_any_fact(given(ce_aggregateversion="three"), CODEC)
