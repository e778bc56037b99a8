"""Signed batches on a real PostgreSQL: what is recorded when signatures are required or only counted, and when a batch comes again."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.keys import key_of, signed
from tests.support.pipelines import assert_sound, intake, outcomes, query
from tests.support.records import Topic, create, window
from tests.support.roles import as_writer
from worker import authentication as module
from worker import verifying
from worker.authentication import Authentication
from worker.domain.aggregate import SLO
from worker.postgres.connection import UnitOpener
from worker.postgres.storages import STORAGES
from worker.recovery import process_reliably
from worker.signatures import Signer

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from worker.envelope import Record
    from worker.signing_keys import Key

SIGNER, OTHER = Signer.generate(), Signer.generate()
KEYS = {
    SIGNER.key_id: key_of(SIGNER, "CreateSLO", "RecordSLIWindow", principal="one"),
    OTHER.key_id: key_of(OTHER, "CreateSLO", "RecordSLIWindow", principal="other"),
}
REVOKED = {key_id: replace(key, is_revoked=True) for key_id, key in KEYS.items()}


def process(database: str, batch: Sequence[Record], keys: Mapping[str, Key] = KEYS, *, only_count: bool = False) -> Authentication:
    async def keys_now(_: Collection[str]) -> Mapping[str, Key]:
        return keys

    authentication = Authentication(keys_now, only_count)

    async def once() -> None:
        opener = UnitOpener(as_writer(database), STORAGES)
        try:
            await process_reliably(batch, replace(intake(database, SLO, opener), authentication=authentication))
        finally:
            await opener.close()

    asyncio.run(once())
    return authentication


def codes(database: str) -> list[str]:
    return [code for (code,) in query(database, 'SELECT coalesce(code, outcome) FROM inbox ORDER BY partition, "offset"')]


def everything(database: str) -> list[Any]:
    return [query(database, f"SELECT * FROM {table} ORDER BY 1, 2, 3, 4") for table in ("inbox", "outbox", "slo")]  # noqa: S608


def test_facts_and_rejections_say_who_asked(database: str) -> None:
    topic = Topic()
    batch = [
        signed(topic.append(create()), SIGNER),
        signed(topic.append(window(0, good=100)), OTHER),
        topic.append(window(1)),
        signed(topic.append(create()), OTHER),
        signed(topic.append(window(2), tenant="globex"), OTHER),
    ]
    process(database, batch)
    assert codes(database) == ["facts", "facts", "SIGNATURE_REQUIRED", "SLO_ALREADY_EXISTS", "TENANT_MISMATCH"]
    told = query(database, "SELECT type, tenant_id, principal FROM outbox ORDER BY aggregate_version, tenant_id, principal NULLS LAST")
    assert told == [
        ("sre.core.v1.SLOCreated", "acme", "one"),
        ("sre.core.v1.SLIWindowRecorded", "acme", "other"),
        ("sre.core.v1.IntentRejected", "acme", "other"),
        ("sre.core.v1.IntentRejected", "acme", None),
        ("sre.core.v1.IntentRejected", "globex", None),
    ]
    assert_sound(database)


def test_what_is_refused_for_its_signature_uses_up_no_id(database: str) -> None:
    topic = Topic()
    process(database, [signed(topic.append(create()), SIGNER), topic.append(window(0), intent_id="mine")])
    process(database, [signed(topic.append(window(0), intent_id="mine"), SIGNER)])
    assert codes(database) == ["facts", "SIGNATURE_REQUIRED", "facts"]


def test_a_forged_repeat_of_a_decided_intent_learns_nothing_and_changes_nothing(database: str) -> None:
    """The same bytes without a signature, under an id that is used up and under one that is free: one rejection each, and no difference."""
    topic = Topic()
    true = signed(topic.append(create(), intent_id="decided"), SIGNER)
    process(database, [true])
    before = query(database, "SELECT * FROM inbox")
    forged = [topic.append(create(), intent_id=name) for name in ("decided", "free", "decided")]
    process(database, forged)
    assert [row for row in query(database, "SELECT * FROM inbox") if row in before] == before
    rejections = query(database, "SELECT causation_id, payload FROM outbox WHERE aggregate_version IS NULL ORDER BY ctid")
    assert [name for name, _ in rejections] == ["decided", "free", "decided"]
    assert codes(database) == ["facts", *["SIGNATURE_REQUIRED"] * 3]
    process(database, forged)
    assert codes(database) == ["facts", *["SIGNATURE_REQUIRED"] * 3]
    assert_sound(database)


def test_a_forged_repeat_in_the_batch_of_the_true_one_is_refused_too(database: str) -> None:
    topic = Topic()
    process(database, [signed(topic.append(create(), intent_id="one"), SIGNER), topic.append(create(), intent_id="one")])
    assert codes(database) == ["facts", "SIGNATURE_REQUIRED"]


def test_a_forger_can_not_take_an_id_before_its_owner_does(database: str) -> None:
    topic = Topic()
    process(database, [topic.append(create(name="forged"), intent_id="mine"), signed(topic.append(create(), intent_id="mine"), SIGNER)])
    assert codes(database) == ["SIGNATURE_REQUIRED", "facts"]


def test_a_replayed_copy_with_another_good_signature_is_a_duplicate(database: str) -> None:
    topic = Topic()
    created = topic.append(create(), intent_id="once")
    process(database, [signed(created, SIGNER)])
    before = everything(database)
    again = topic.append_raw(created.key, created.value, created.headers)
    process(database, [signed(again, OTHER)])
    process(database, [signed(again, SIGNER)])
    assert everything(database) == before


@pytest.mark.parametrize(("first", "second"), [(KEYS, REVOKED), (REVOKED, KEYS), ({}, KEYS), (KEYS, {})])
def test_a_batch_that_comes_again_keeps_the_outcomes_of_the_keys_it_was_decided_by(
    database: str, first: Mapping[str, Key], second: Mapping[str, Key]
) -> None:
    """Killed after the commit and before it acknowledged: by then a key was revoked, or made."""
    topic = Topic()
    batch = [signed(topic.append(create()), SIGNER), signed(topic.append(window(0)), OTHER)]
    process(database, batch, first)
    before = everything(database)
    process(database, batch, second)
    assert everything(database) == before
    assert_sound(database)


def test_where_signatures_are_only_counted_all_is_taken_and_one_line_says_so(database: str, caplog: pytest.LogCaptureFixture) -> None:
    topic = Topic()
    caplog.set_level(logging.WARNING, module.__name__)
    batch = [signed(topic.append(create()), SIGNER), *(topic.append(window(minute, good=100)) for minute in (0, 1))]
    batch.append(signed(topic.append(window(2, good=100)), OTHER))
    authentication = process(database, batch, {SIGNER.key_id: KEYS[SIGNER.key_id]}, only_count=True)
    assert codes(database) == ["facts"] * 4
    assert authentication.failures == {"SIGNATURE_REQUIRED": 2, "KEY_UNKNOWN": 1}
    (line,) = caplog.messages
    assert "KEY_UNKNOWN 1, SIGNATURE_REQUIRED 2; now sre.slo.intents.v1[0]@1" in line
    principals = query(database, "SELECT principal FROM outbox ORDER BY aggregate_version")
    assert principals == [("one",), (None,), (None,), (None,)]


def test_results_come_in_the_order_of_their_records_through_threads_too(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "_CHUNK", 4)
    topic = Topic()
    batch = [signed(topic.append(create()), SIGNER)]
    for minute in range(40):
        record = signed(topic.append(window(minute)), SIGNER)
        batch.append(record if minute % 3 else record._replace(headers=[*record.headers[:-1], ("ce_signature", b"A" * 86)]))
    process(database, batch)
    assert codes(database) == ["facts", *("facts" if minute % 3 else "SIGNATURE_INVALID" for minute in range(40))]
    assert_sound(database)


def test_a_bound_actor_that_is_another_uses_the_id_up(database: str) -> None:
    topic = Topic()
    bound = {SIGNER.key_id: replace(KEYS[SIGNER.key_id], actor="ben")}
    refused = signed(topic.append(create(actor="ann"), intent_id="as-ann"), SIGNER)
    process(database, [refused], bound)
    again = signed(topic.append_raw(refused.key, refused.value, refused.headers), SIGNER)
    process(database, [again], bound)
    assert outcomes(database) == {"as-ann": "NOT_AUTHORISED"}
    assert query(database, "SELECT count(*) FROM outbox") == [(1,)]
