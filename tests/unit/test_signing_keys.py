"""Check 4: each code where docs/contract.md has it, in its order; and the bound actor of check 8."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.support.keys import key_of, signed
from tests.support.records import CODEC, NOW, Topic, create, window
from worker.domain.aggregate import SLO
from worker.domain.rejection import RejectionCode
from worker.envelope import Envelope, open_envelope
from worker.receiving import Fit, Refused, Unfit, Unread, receive
from worker.signatures import Signer
from worker.signing_keys import Asker, asker_of, claim_of, proof_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.envelope import Header, Record
    from worker.signing_keys import Key

SIGNER, OTHER = Signer.generate(), Signer.generate()
KEY = key_of(SIGNER, "RecordSLIWindow", "CreateSLO")
RETENTION = timedelta(days=30)
HOUR = timedelta(hours=1)


def asker(record: Record, keys: Mapping[str, Key]) -> Asker:
    envelope, claim = open_envelope(record), claim_of(record)
    assert isinstance(envelope, Envelope)
    proof = proof_of(claim, record, keys)
    return asker_of(claim, envelope, keys, holds=proof is not None and proof.holds())


def code(record: Record, key: Key = KEY, signer: Signer = SIGNER) -> str | None:
    refusal = asker(record, {signer.key_id: key}).refusal
    return None if refusal is None else str(refusal.code)


def with_header(record: Record, name: str, *values: bytes | None) -> Record:
    kept: list[Header] = [header for header in record.headers if header[0] != name]
    return record._replace(headers=[*kept, *((name, value) for value in values)])


def good(signer: Signer = SIGNER, tenant: str = "acme") -> Record:
    return signed(Topic().append(window(0), tenant=tenant), signer)


def test_a_good_signature_says_who_asks() -> None:
    assert asker(good(), {SIGNER.key_id: KEY}) == Asker("importer", None)
    assert asker(good(), {SIGNER.key_id: replace(KEY, actor="ann")}) == Asker("importer", "ann")


@pytest.mark.parametrize("name", ["ce_keyid", "ce_signature"])
@pytest.mark.parametrize("values", [(), (None,), (b"",), (b"\xff",), (b"x\x00",), (b"x" * 1025,), (b"x", b"x")])
def test_a_header_that_counts_as_absent_is_required(name: str, values: tuple[bytes | None, ...]) -> None:
    record = with_header(good(), name, *values)
    refusal = asker(record, {SIGNER.key_id: KEY}).refusal
    assert refusal is not None
    assert (refusal.code, [fault.field for fault in refusal.violations]) == ("SIGNATURE_REQUIRED", [name])


def test_without_both_headers_both_are_named() -> None:
    refusal = asker(Topic().append(window(0)), {}).refusal
    assert refusal is not None
    assert [fault.field for fault in refusal.violations] == ["ce_keyid", "ce_signature"]


def test_a_key_is_known_in_force_at_ce_time_and_not_revoked() -> None:
    assert code(good(), key_of(OTHER), OTHER) == "KEY_UNKNOWN"
    assert code(good(), replace(KEY, valid_from=NOW)) is None  # from that instant on
    assert code(good(), replace(KEY, valid_from=NOW + timedelta(microseconds=1))) == "KEY_UNKNOWN"
    assert code(good(), replace(KEY, valid_until=NOW + timedelta(microseconds=1))) is None
    assert code(good(), replace(KEY, valid_until=NOW)) == "KEY_UNKNOWN"  # and before that one
    assert code(good(), replace(KEY, is_revoked=True)) == "KEY_REVOKED"


@pytest.mark.parametrize("signature", [b"x", b"+" * 86, b"A" * 86, b"A" * 88, b"==", "ü".encode()])
def test_a_signature_that_is_none_is_invalid(signature: bytes) -> None:
    assert code(with_header(good(), "ce_signature", signature)) == "SIGNATURE_INVALID"


def test_another_key_s_signature_is_invalid() -> None:
    forged = with_header(good(OTHER), "ce_keyid", SIGNER.key_id.encode())
    assert code(forged) == "SIGNATURE_INVALID"


def test_a_key_speaks_for_its_own_tenant_and_what_it_lists() -> None:
    assert code(good(tenant="globex")) == "TENANT_MISMATCH"
    assert code(good(), replace(KEY, intents=frozenset({"CreateSLORequested"}))) == "NOT_AUTHORISED"
    assert code(good(), replace(KEY, intents=frozenset())) == "NOT_AUTHORISED"


def test_another_tenant_s_principal_is_not_told() -> None:
    assert asker(good(tenant="globex"), {SIGNER.key_id: KEY}).principal is None
    assert asker(good(), {SIGNER.key_id: replace(KEY, intents=frozenset())}).principal == "importer"


# Each step repairs what the code before it names; all that is still wrong comes after it in the order of the contract.
BROKEN = replace(KEY, valid_until=NOW - HOUR, is_revoked=True, tenant_id="globex", intents=frozenset())


def test_the_codes_come_in_the_order_of_the_contract() -> None:
    forged = with_header(good(OTHER), "ce_keyid", SIGNER.key_id.encode())
    in_force = replace(BROKEN, valid_until=KEY.valid_until)
    not_revoked = replace(in_force, is_revoked=False)
    steps = [
        (with_header(forged, "ce_signature"), BROKEN),
        (forged, BROKEN),
        (forged, in_force),
        (forged, not_revoked),
        (good(), not_revoked),
        (good(), replace(not_revoked, tenant_id="acme")),
        (good(), KEY),
    ]
    assert [code(record, key) for record, key in steps] == [
        "SIGNATURE_REQUIRED",
        "KEY_UNKNOWN",
        "KEY_REVOKED",
        "SIGNATURE_INVALID",
        "TENANT_MISMATCH",
        "NOT_AUTHORISED",
        None,
    ]


def received(record: Record, key: Key, *, only_count: bool = False) -> tuple[Refused | Unfit | Fit, str | None, str | None]:
    """Verdict, principal, and the code of the doubt."""
    keys = {SIGNER.key_id: key}

    def who_asks(asked: Record, _: Envelope) -> Asker:
        return asker(asked, keys)

    item = receive(record, SLO, CODEC, NOW, RETENTION, who_asks, only_count=only_count)
    assert not isinstance(item.verdict, Unread), "no registry is set"
    return item.verdict, item.principal, None if item.doubt is None else str(item.doubt.code)


def code_of(verdict: Refused | Unfit | Fit) -> tuple[str, str | None]:
    return type(verdict).__name__, None if isinstance(verdict, Fit) else str(verdict.rejection.code)


def test_check_4_comes_after_3_and_before_5_and_6() -> None:
    no_time = with_header(good(), "ce_time")
    assert code_of(received(no_time, KEY)[0]) == ("Refused", "SCHEMA_INVALID")
    no_tenant = with_header(good(), "ce_tenantid")
    assert code_of(received(no_tenant, KEY)[0]) == ("Refused", "TENANT_REQUIRED")
    unsigned = Topic(now=NOW - timedelta(days=40)).append(window(0))
    assert code_of(received(unsigned, KEY)[0]) == ("Refused", "SIGNATURE_REQUIRED")
    assert code_of(received(signed(unsigned, SIGNER), KEY)[0]) == ("Refused", "INTENT_EXPIRED")
    unknown = signed(with_header(Topic().append(window(0)), "ce_type", b"sre.core.v1.DropAllRequested"), SIGNER)
    assert code_of(received(unknown, KEY)[0]) == ("Refused", "NOT_AUTHORISED")
    assert code_of(received(unknown, replace(KEY, intents=frozenset({"DropAllRequested"})))[0]) == ("Refused", "UNKNOWN_INTENT")


def test_a_bound_actor_is_held_against_the_intent_s_and_uses_the_id_up() -> None:
    record = signed(Topic().append(create(actor="ann")), SIGNER)
    assert code_of(received(record, replace(KEY, actor="ann"))[0]) == ("Fit", None)
    verdict, principal, _ = received(record, replace(KEY, actor="ben"))
    assert (code_of(verdict), principal) == (("Unfit", "NOT_AUTHORISED"), "importer")
    assert code_of(received(good(), replace(KEY, actor="ben"))[0]) == ("Fit", None)  # a window has no actor


def test_the_bound_actor_comes_after_decoding_and_before_shapes() -> None:
    bound = replace(KEY, actor="ben")
    garbage = signed(Topic().append(create())._replace(value=b"\xc3\x01"), SIGNER)
    assert code_of(received(garbage, bound)[0]) == ("Unfit", "SCHEMA_INVALID")
    shapeless = signed(Topic().append(create(owner="")), SIGNER)
    assert code_of(received(shapeless, bound)[0]) == ("Unfit", "NOT_AUTHORISED")
    assert code_of(received(shapeless, KEY)[0]) == ("Unfit", "SCHEMA_INVALID")


def test_where_failures_are_only_counted_nothing_is_refused() -> None:
    unsigned = Topic().append(window(0))
    verdict, principal, doubt = received(unsigned, KEY, only_count=True)
    assert (code_of(verdict), principal, doubt) == (("Fit", None), None, "SIGNATURE_REQUIRED")
    verdict, principal, doubt = received(good(), replace(KEY, intents=frozenset()), only_count=True)
    assert (code_of(verdict), principal, doubt) == (("Fit", None), "importer", "NOT_AUTHORISED")
    record = signed(Topic().append(create(actor="ann")), SIGNER)
    verdict, principal, doubt = received(record, replace(KEY, actor="ben"), only_count=True)
    assert (code_of(verdict), principal, doubt) == (("Fit", None), "importer", "NOT_AUTHORISED")
    assert received(good(), KEY, only_count=True)[1:] == ("importer", None)


def test_every_code_of_check_4_is_one_that_exists() -> None:
    codes = {"SIGNATURE_REQUIRED", "SIGNATURE_INVALID", "KEY_UNKNOWN", "KEY_REVOKED", "TENANT_MISMATCH", "NOT_AUTHORISED"}
    assert codes <= set(RejectionCode)
