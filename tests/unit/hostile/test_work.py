"""Work that a stranger can ask for grows no faster than what was sent, and what is kept of it is bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from aiokafka.partitioner import murmur2

from tests.support.hostile import good, to_record
from tests.support.records import CODEC, NOW
from worker import partitioner
from worker.domain.aggregate import AGGREGATES
from worker.domain.parsing import parse_command
from worker.domain.rejection import Rejection, RejectionCode, refuse_fields
from worker.envelope import salvage
from worker.integrations import located_yaml
from worker.integrations.alertmanager import MAX_ALERTS, WebhookInvalidError, read_notification
from worker.integrations.kubectl_output import MAX_SEPARATORS, KubectlOutputError, read_items
from worker.integrations.located_yaml import read_documents

if TYPE_CHECKING:
    from collections.abc import Iterator


class Counted(str):
    """A header's name that counts what it is compared with."""

    __slots__ = ()
    comparisons = 0

    def __eq__(self, other: object) -> bool:
        Counted.comparisons += 1
        return str.__eq__(self, other)

    def __hash__(self) -> int:
        return str.__hash__(self)


def test_repeated_headers_are_found_without_comparing_each_with_each() -> None:
    count = 4_000
    flood = [(Counted(f"ce_{number % (count // 2)}"), b"") for number in range(count)]
    Counted.comparisons = 0
    salvage(to_record(good(1))._replace(headers=flood))
    assert Counted.comparisons < 10 * count


def test_a_long_key_is_not_remembered() -> None:
    partitioner.partition_of(b"short", 12)
    before = partitioner._murmur2_of_short.cache_info().currsize
    partitioner.partition_of(b"k" * 1_000_000, 12)
    assert partitioner._murmur2_of_short.cache_info().currsize == before


@pytest.mark.parametrize("length", [257, 258, 259, 260, 1_000])
def test_a_long_key_lies_where_kafkas_own_clients_put_it(length: int) -> None:
    key = bytes(range(256)) * 4
    assert partitioner.murmur2_of_long(key[:length]) == murmur2(key[:length])


def test_a_rejection_names_a_thousand_fields_at_most() -> None:
    rejection = refuse_fields(RejectionCode.SCHEMA_INVALID, {f"steps[{number}]": "is wrong" for number in range(100_000)})
    assert len(rejection.violations) == 1_000
    assert rejection.message.endswith("; and 99950 more")


def test_only_the_first_items_of_a_list_are_judged_where_they_are_too_many() -> None:
    fields = CODEC.decode("CreateRunbookRequested", good(1).value or b"")
    runbook = AGGREGATES["runbook"]

    def refusal(**changes: object) -> Rejection:
        rejection = parse_command(runbook, "CreateRunbookRequested", {**fields, **changes}, "restart")
        assert isinstance(rejection, Rejection)
        return rejection

    assert refusal(trigger_conditions=["a"] * 100_000).code == "LIMIT_EXCEEDED"
    assert len(refusal(trigger_conditions=[" "] * 100_000).violations) == 200
    assert refusal(tags=[str(number) for number in range(100_000)]).code == "LIMIT_EXCEEDED"
    assert not isinstance(parse_command(runbook, "CreateRunbookRequested", {**fields, "tags": ["a", "b"] * 50_000}, "restart"), Rejection)


def shapes(schema: Any) -> Iterator[Any]:  # noqa: ANN401 - any JSON
    yield schema
    if isinstance(schema, dict):
        for part in schema.values():
            yield from shapes(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from shapes(part)


def smallest(schema: Any) -> int:  # noqa: ANN401 - any JSON
    """Bytes of the smallest datum."""
    match schema:
        case "null":
            return 0
        case {"type": "record", "fields": fields}:
            return sum(smallest(field["type"]) for field in fields)
        case {"type": inner} if inner not in ("array", "map"):
            return smallest(inner)
        case _:
            return 1


def test_no_item_of_a_list_comes_for_nothing() -> None:
    for schema in CODEC.released.values():
        for shape in shapes(schema):
            if isinstance(shape, dict) and shape.get("type") == "array":
                assert smallest(shape["items"]) >= 1, shape


@pytest.mark.parametrize("alerts", [b"1," * 300_000 + b"1", b"{}," * 200_000 + b"{}", b'{"fingerprint":"a"},' * MAX_ALERTS + b"{}"])
def test_a_webhook_of_very_many_alerts_is_refused_by_its_first_fault_or_its_number(alerts: bytes) -> None:
    with pytest.raises(WebhookInvalidError) as refusal:
        read_notification(b'{"version":"4","alerts":[' + alerts + b"]}", "acme", NOW)
    assert len(str(refusal.value)) < 200


def test_a_webhook_of_very_many_values_is_not_even_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.integrations.alertmanager._Webhook", None)
    with pytest.raises(WebhookInvalidError, match="values"):
        read_notification(b'{"version":"4","alerts":[' + b"1," * 600_000 + b"1]}", "acme", NOW)


def test_a_list_of_very_many_values_is_not_even_parsed() -> None:
    with pytest.raises(KubectlOutputError, match="values"):
        read_items(b"{}," * (MAX_SEPARATORS // 2 + 1))


@pytest.mark.parametrize("bomb", [b"[" * 100_000, b'{"a":' * 50_000, b"- " * 5_000, b"[" * 5_000])
def test_depth_is_refused(bomb: bytes) -> None:
    with pytest.raises(KubectlOutputError):
        read_items(bomb + b"\n")


@pytest.mark.parametrize(
    "bomb",
    [
        b"a: &a [x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n",
        b"[" * 200,
        b"- " * 5_000,
        b"? " * 5_000,
        b"a: " + b"[1]," * 200_000,
        b"!!python/object/apply:os.system [id]\n" + b"- a\n" * 200_000,
    ],
)
def test_yaml_that_would_grow_is_refused(bomb: bytes) -> None:
    with pytest.raises(located_yaml.UnreadableError):
        list(read_documents("a.yaml", bomb))


def test_a_guess_at_what_was_meant_is_made_for_the_first_keys_only(monkeypatch: pytest.MonkeyPatch) -> None:
    guesses: list[str] = []

    def guess(name: str, *_: object) -> list[str]:
        guesses.append(name)
        return []

    monkeypatch.setattr(located_yaml, "get_close_matches", guess)
    (document,) = read_documents("a.yaml", b"".join(b"k%d: 1\n" % number for number in range(5_000)) + b"l" * 1_000 + b": 1\n")
    located_yaml.part_of(document, document.root, "", ("description",))
    assert len(document.faults) == 5_001
    assert len(guesses) == 100
