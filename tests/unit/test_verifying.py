"""Signatures verified before and in a batch: the same results, whatever was expected, changed or never came."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.keys import key_of, signed
from tests.support.records import Topic, window
from worker import verifying
from worker.signatures import Signer
from worker.signing_keys import claim_of
from worker.verifying import Verifier

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.envelope import Record
    from worker.signing_keys import Key, Proof

SIGNER, OTHER = Signer.generate(), Signer.generate()
KEYS = {SIGNER.key_id: key_of(SIGNER)}


def records(count: int) -> list[Record]:
    """Every third one has a signature that is none."""
    topic = Topic()
    good = [signed(topic.append(window(number)), SIGNER) for number in range(count)]
    forged = [("ce_signature", b"A" * 86)]
    return [record._replace(headers=[*record.headers[:-1], *forged]) if n % 3 == 1 else record for n, record in enumerate(good)]


def results(count: int) -> list[bool]:
    return [number % 3 != 1 for number in range(count)]


def verified(verifier: Verifier, batch: Sequence[Record], keys: Mapping[str, Key] = KEYS) -> list[bool]:
    return asyncio.run(verifier.verified(batch, [claim_of(record) for record in batch], keys))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many signatures were verified, call by call."""
    calls: list[int] = []
    verify = verifying.verify

    def counting(proofs: Sequence[Proof | None]) -> list[bool]:
        calls.append(len(proofs))
        return verify(proofs)

    monkeypatch.setattr(verifying, "verify", counting)
    return calls


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 100])
def test_results_are_in_the_order_of_the_records(count: int) -> None:
    assert verified(Verifier(), records(count)) == results(count)


def test_what_was_expected_is_verified_once(counted: list[int]) -> None:
    verifier, batch = Verifier(), records(100)
    for record in batch:
        verifier.expect(record, KEYS)
    assert verified(verifier, batch) == results(100)
    assert sorted(counted) == [4, 32, 32, 32]


def test_what_is_quiet_is_not_verified_again_when_more_comes(counted: list[int]) -> None:
    verifier = Verifier()
    for record in records(40):
        verifier.expect(record, KEYS)
        verified(verifier, [record])
    assert sum(counted) == 40


def test_a_record_that_is_equal_is_not_the_one_that_was_verified() -> None:
    verifier, batch = Verifier(), records(32)
    for record in batch:
        verifier.expect(record, KEYS)
    others = [record._replace(headers=list(record.headers)) for record in batch]
    assert verified(verifier, others) == results(32)
    changed = [record._replace(value=(record.value or b"")[:-1]) for record in batch]
    assert verified(verifier, changed) == [False] * 32


def test_with_another_key_of_its_id_by_then_it_is_verified_anew() -> None:
    verifier, batch = Verifier(), records(32)
    for record in batch:
        verifier.expect(record, KEYS)
    another = {SIGNER.key_id: replace(KEYS[SIGNER.key_id], public_key=OTHER.public_key)}
    assert verified(verifier, batch, another) == [False] * 32
    for record in batch:
        verifier.expect(record, another)
    assert verified(verifier, batch) == results(32)


def test_a_key_that_is_known_only_by_then_counts() -> None:
    verifier, batch = Verifier(), records(32)
    for record in batch:
        verifier.expect(record, {})
    assert verified(verifier, batch) == results(32)
    for record in batch:
        verifier.expect(record, KEYS)
    assert verified(verifier, batch, {}) == [False] * 32


def test_records_that_never_come_to_a_batch_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "_MOST_AHEAD", 64)
    verifier = Verifier()
    for record in records(320):
        verifier.expect(record, KEYS)
    assert len(verifier._ahead) <= 96


def test_large_records_and_those_without_headers_are_not_held() -> None:
    verifier = Verifier()
    for record in records(40):
        verifier.expect(record._replace(value=b"x" * 5_000), KEYS)
        verifier.expect(record._replace(headers=()), KEYS)
    assert (verifier._coming, verifier._ahead) == ([], {})
    unsigned = [record._replace(headers=()) for record in records(40)]
    assert verified(verifier, unsigned) == [False] * 40
