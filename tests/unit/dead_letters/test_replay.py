"""Which record sends a refused one again: its id by what the rejection used up, its bytes as they were."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.keys import signed as signed_by
from tests.support.letters import letter_of
from tests.support.records import CODEC, NOW, Topic, create, window
from worker.dead_letters.replay import ASKER_CODES, LeftOut, Resend, replay_of, replays, with_headers
from worker.domain.rejection import RejectionCode
from worker.envelope import MAX_HEADERS_BYTES, Envelope, open_envelope
from worker.receiving import content_hash
from worker.signatures import Signer, decode, is_good, signed_bytes

if TYPE_CHECKING:
    from worker.dead_letters.letters import Letter
    from worker.envelope import Record

C = RejectionCode
OPERATOR, PRODUCER = Signer.generate(), Signer.generate()
OTHERS = ("ce_correlationid", "ce_causationid", "ce_traceparent", "x-team", "ce_dataschema", "")
garbage = st.lists(st.tuples(st.sampled_from(OTHERS), st.none() | st.binary(max_size=40)), max_size=6)


def record(extra: object = (), **rest: object) -> Record:
    made = Topic().append(window(0), intent_id="old", **rest)  # type: ignore[arg-type]
    return made._replace(headers=[*made.headers, *extra])  # type: ignore[misc]


def resend(letter: Letter, *, restamp: bool = False) -> Resend:
    outcome = replay_of(letter, CODEC, NOW, restamp=restamp)
    assert isinstance(outcome, Resend), outcome
    return outcome


def reason(letter: Letter, *, restamp: bool = False) -> str:
    outcome = replay_of(letter, CODEC, NOW, restamp=restamp)
    assert isinstance(outcome, LeftOut), outcome
    return outcome.reason


@given(garbage)
def test_where_no_id_was_used_up_the_record_goes_out_as_it_was(extra: list[tuple[str, bytes | None]]) -> None:
    refused = record(extra)
    sent = resend(letter_of(refused, C.INTERNAL_ERROR))
    assert (sent.outgoing.topic, sent.outgoing.key, sent.outgoing.value) == (refused.topic, refused.key, refused.value)
    assert list(sent.outgoing.headers) == list(refused.headers)
    assert not sent.is_renamed


@given(garbage)
def test_where_the_id_was_used_up_all_but_id_and_cause_stays(extra: list[tuple[str, bytes | None]]) -> None:
    refused = record(extra)
    sent = resend(letter_of(refused, C.SLO_NOT_FOUND, used_up=True))
    envelope, old = open_envelope(refused._replace(headers=sent.outgoing.headers)), open_envelope(refused)
    assert isinstance(envelope, Envelope)
    assert isinstance(old, Envelope)
    assert sent.is_renamed
    assert (envelope.intent_id, [value for name, value in sent.outgoing.headers if name == "ce_causationid"]) == (sent.intent_id, [b"old"])
    assert envelope.trace.correlation_id == (old.trace.correlation_id or "old")
    assert content_hash(refused._replace(headers=sent.outgoing.headers)) == content_hash(refused)
    changed = {"ce_id", "ce_causationid"} | (set() if old.trace.correlation_id else {"ce_correlationid"})
    assert [header for header in sent.outgoing.headers if header[0] not in changed] == [h for h in refused.headers if h[0] not in changed]
    assert (sent.outgoing.key, sent.outgoing.value) == (refused.key, refused.value)


@given(st.integers(0, 2**40), st.integers(0, 11))
def test_the_new_id_is_the_same_however_often_and_wherever_it_was_refused(offset: int, partition: int) -> None:
    first = letter_of(record(), C.IDEMPOTENCY_KEY_REUSED)
    again = letter_of(record()._replace(offset=offset, partition=partition), C.IDEMPOTENCY_KEY_REUSED)
    assert resend(first).intent_id == resend(again).intent_id != "old"


def test_the_new_id_is_of_the_tenant_the_old_id_and_the_content() -> None:
    kinds = (record(), record(tenant="globex"), record()._replace(value=CODEC.encode("RecordSLIWindowRequested", window(5))))
    assert len({resend(letter_of(refused, C.IDEMPOTENCY_KEY_REUSED)).intent_id for refused in kinds}) == 3


def test_a_replay_that_was_refused_again_has_an_id_that_follows_from_its_own() -> None:
    first = resend(letter_of(record(), C.SLO_NOT_FOUND, used_up=True))
    second = resend(letter_of(record()._replace(headers=first.outgoing.headers, offset=9), C.SLO_NOT_FOUND, used_up=True))
    assert second.intent_id not in (first.intent_id, "old")
    assert dict(second.outgoing.headers)["ce_causationid"] == first.intent_id.encode()
    assert dict(second.outgoing.headers)["ce_correlationid"] == b"old"


@pytest.mark.parametrize(
    ("refused", "code", "found"),
    [
        (record()._replace(value=b"x" * 300_000), C.MESSAGE_TOO_LARGE, "would be refused again: MESSAGE_TOO_LARGE"),
        (record()._replace(value=b"x" * 2_000_000), C.MESSAGE_TOO_LARGE, "MESSAGE_TOO_LARGE (the rejection holds only its beginning)"),
        (record(tenant="no tenant"), C.TENANT_REQUIRED, "would be refused again: TENANT_REQUIRED"),
        (record()._replace(key=b"another"), C.SCHEMA_INVALID, "would be refused again: SCHEMA_INVALID"),
        (record()._replace(key=None, value=None), C.SCHEMA_INVALID, "would be refused again: SCHEMA_INVALID"),
        (record(time=NOW - timedelta(days=31)), C.INTENT_EXPIRED, "would be refused again: INTENT_EXPIRED"),
        (record(time=NOW + timedelta(hours=1)), C.TIMESTAMP_IN_FUTURE, "would be refused again: TIMESTAMP_IN_FUTURE"),
        (record()._replace(topic="sre.alert.intents.v1"), C.UNKNOWN_INTENT, "would be refused again: UNKNOWN_INTENT"),
        (record()._replace(topic="payments"), C.UNKNOWN_INTENT, "not from an intent topic"),
    ],
)
def test_what_would_be_refused_whatever_the_state_is_is_left_out(refused: Record, code: RejectionCode, found: str) -> None:
    assert found in reason(letter_of(refused, code))


def test_what_would_be_refused_under_its_new_id_too_is_left_out() -> None:
    refused = record()._replace(value=b"garbage")
    assert reason(letter_of(refused, C.SCHEMA_INVALID, used_up=True)) == "would be refused again: SCHEMA_INVALID"
    room = MAX_HEADERS_BYTES - sum(len(name) + len(value or b"") for name, value in record().headers)
    narrow = record([("x", b"x" * (room - 1))])
    assert not resend(letter_of(narrow, C.INTERNAL_ERROR)).is_renamed
    assert reason(letter_of(narrow, C.VERSION_CONFLICT, used_up=True)) == "would be refused again: MESSAGE_TOO_LARGE"


def test_a_type_or_schema_that_is_known_by_now_is_sent_under_the_id_that_is_free() -> None:
    assert not resend(letter_of(record(), C.UNKNOWN_INTENT)).is_renamed
    assert resend(letter_of(record(), C.SCHEMA_INVALID, used_up=True)).is_renamed


def test_a_time_that_was_in_the_future_and_has_come_is_sent_as_it_was() -> None:
    assert not resend(letter_of(record(time=NOW + timedelta(minutes=4)), C.TIMESTAMP_IN_FUTURE)).is_renamed


@pytest.mark.parametrize(("time", "code"), [(NOW - timedelta(days=31), C.INTENT_EXPIRED), (NOW + timedelta(days=1), C.TIMESTAMP_IN_FUTURE)])
def test_restamp_asks_as_of_the_time_at_which_kafka_took_the_record(time: object, code: RejectionCode) -> None:
    letter = letter_of(record(time=time), code)
    sent = resend(letter, restamp=True)
    assert sent == resend(letter, restamp=True)
    assert dict(sent.outgoing.headers)["ce_time"] == b"2026-03-09T12:00:00.000000Z"
    assert sent.is_renamed


def test_restamp_leaves_every_other_time_alone() -> None:
    letter = letter_of(record(), C.SLO_NOT_FOUND, used_up=True)
    assert resend(letter, restamp=True) == resend(letter)


def test_a_signed_intent_keeps_its_id_or_stays() -> None:
    signed = record([("ce_keyid", b"k"), ("ce_signature", b"s")])
    assert not resend(letter_of(signed, C.INTERNAL_ERROR)).is_renamed
    assert "signed" in reason(letter_of(signed, C.VERSION_CONFLICT, used_up=True))
    expired = record([("ce_signature", b"s")], time=NOW - timedelta(days=31))
    assert "signed" in reason(letter_of(expired, C.INTENT_EXPIRED), restamp=True)


def signer_of(sent: Resend) -> str | None:
    """Whose good signature it goes out with."""
    headers = dict(sent.outgoing.headers)
    if "ce_signature" not in headers:
        return None
    signature = decode(headers["ce_signature"])
    signed_with = [one for one in (OPERATOR, PRODUCER) if one.key_id.encode() == headers["ce_keyid"]]
    assert signature is not None
    assert is_good(signed_with[0].public_key, signature, signed_bytes(headers, sent.outgoing.value))
    return signed_with[0].key_id


def by_operator(letter: Letter, *, restamp: bool = False) -> Resend | LeftOut:
    return replay_of(letter, CODEC, NOW, OPERATOR, restamp=restamp)


def test_with_a_key_what_has_no_signature_of_its_own_asks_in_the_operator_s_name() -> None:
    signed, unsigned = signed_by(record(), PRODUCER), record()
    old = signed_by(record(time=NOW - timedelta(days=31)), PRODUCER)
    told = [
        by_operator(letter_of(signed, C.INTERNAL_ERROR)),
        by_operator(letter_of(unsigned, C.INTERNAL_ERROR)),
        by_operator(letter_of(signed, C.VERSION_CONFLICT, used_up=True)),
        by_operator(letter_of(unsigned, C.VERSION_CONFLICT, used_up=True)),
        by_operator(letter_of(old._replace(timestamp_ms=signed.timestamp_ms), C.INTENT_EXPIRED), restamp=True),
    ]
    names = [signer_of(sent) for sent in told if isinstance(sent, Resend)]
    assert names == [PRODUCER.key_id, *[OPERATOR.key_id] * 4]


@pytest.mark.parametrize("code", ASKER_CODES)
def test_what_was_refused_for_who_asked_is_never_signed_anew(code: RejectionCode) -> None:
    for refused in (record(), signed_by(record(), PRODUCER), record([("ce_keyid", b"x"), ("ce_keyid", b"y")])):
        for sent in (by_operator(letter_of(refused, code)), by_operator(letter_of(refused, code), restamp=True)):
            assert isinstance(sent, Resend)
            assert list(sent.outgoing.headers) == list(refused.headers)
        left = by_operator(letter_of(refused, code, used_up=True))
        assert isinstance(left, LeftOut)
        assert left.reason == f"refused for who asked ({code}): its producer has to ask again"


def test_one_intent_that_was_refused_many_times_is_sent_once() -> None:
    letters = [letter_of(record()._replace(offset=offset), C.INTERNAL_ERROR) for offset in range(3)]
    other = letter_of(record()._replace(offset=3, value=CODEC.encode("RecordSLIWindowRequested", window(5))), C.INTERNAL_ERROR)
    outcomes = list(replays([*letters, other], (), CODEC, NOW, restamp=False))
    assert [isinstance(outcome, Resend) for outcome in outcomes] == [True, False, False, True]
    assert not any(isinstance(outcome, LeftOut) and outcome.is_fault for outcome in outcomes)


def test_a_letter_gives_way_to_that_of_its_replay() -> None:
    letter = letter_of(record(), C.SLO_NOT_FOUND, used_up=True)
    first = resend(letter)
    again = letter_of(record()._replace(headers=first.outgoing.headers, offset=1), C.SLO_NOT_FOUND, used_up=True)
    refused = {("acme", "old"), ("acme", first.intent_id)}
    left, sent = replays([letter, again], refused, CODEC, NOW, restamp=False)
    assert isinstance(left, LeftOut)
    assert isinstance(sent, Resend)
    assert dict(sent.outgoing.headers)["ce_causationid"] == first.intent_id.encode()


def test_a_repeated_header_becomes_one_in_the_place_of_the_first() -> None:
    assert with_headers([("a", b"1"), ("b", b"2"), ("a", None)], {"a": b"3", "c": b"4"}) == [("a", b"3"), ("b", b"2"), ("c", b"4")]


def test_a_letter_knows_what_was_used_up_and_what_was_cut() -> None:
    refused = Topic().append(create(), intent_id="old")
    assert letter_of(refused, C.SLO_ALREADY_EXISTS, used_up=True).used_up_id
    assert not letter_of(refused, C.INTERNAL_ERROR).used_up_id
    letter = letter_of(refused, C.INTERNAL_ERROR)
    assert letter.original() == refused
    assert not letter.is_cut
    assert replace(letter, rejection=replace(letter.rejection, value_size=9)).is_cut
    names = ("old", letter.rejection_id, "sre.slo.intents.v1/0/0", f"sre.slo.intents.v1/0/0/{refused.timestamp_ms}")
    assert all(letter.goes_by(name) for name in names)
    assert not letter.goes_by("sre.slo.intents.v1/0")
