"""Check 4 of docs/contract.md: whether whoever signed a record may ask for what it asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from worker.domain.rejection import Rejection, RejectionCode, refuse_fields
from worker.envelope import optional_headers
from worker.signatures import KEY_ID, SIGNATURE, decode, is_good, signed_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from worker.envelope import Envelope, Record


@dataclass(frozen=True, slots=True)
class Key:
    """A public key, and what its holder may ask for: `intents` by their name, as on the wire; any `actor` where that is None.

    In force from `valid_from` on and before `valid_until`.
    """

    public_key: bytes
    tenant_id: str
    principal: str
    valid_from: datetime
    valid_until: datetime
    is_revoked: bool
    intents: frozenset[str]
    actor: str | None


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, as far as a signature says: nobody knows without one. `refusal` is why check 4 fails, None where it does not."""

    principal: str | None = None
    actor: str | None = None
    refusal: Rejection | None = None


NOBODY_KNOWN: Final = Asker()


class Claim(NamedTuple):
    """The two headers of a signature; None for one that counts as absent."""

    key_id: str | None
    signature: str | None


class Proof(NamedTuple):
    """What a signature is verified with: byte strings, so that it can be done anywhere."""

    public_key: bytes
    signature: bytes
    signed: bytes

    def holds(self) -> bool:
        return is_good(*self)


def claim_of(record: Record) -> Claim:
    return Claim(*optional_headers(record, (KEY_ID, SIGNATURE)))


def proof_of(claim: Claim, record: Record, keys: Mapping[str, Key]) -> Proof | None:
    """None where there is nothing to verify: check 4 fails without it."""
    if claim.key_id is None or claim.signature is None or record.value is None:
        return None
    key, signature = keys.get(claim.key_id), decode(claim.signature.encode())
    if key is None or signature is None:
        return None
    return Proof(key.public_key, signature, signed_bytes(dict(record.headers), record.value))


def asker_of(claim: Claim, envelope: Envelope, keys: Mapping[str, Key], *, holds: bool) -> Asker:
    """Check 4, in its order; `holds` is what came of the claim's proof.

    The principal is known where the signature is good and the key is of this tenant: another tenant's principals are not this one's.
    """
    if claim.key_id is None or claim.signature is None:
        faults = {name: "must be present once" for name, text in zip((KEY_ID, SIGNATURE), claim, strict=True) if text is None}
        return Asker(refusal=refuse_fields(RejectionCode.SIGNATURE_REQUIRED, faults))
    key = keys.get(claim.key_id)
    if key is None or not key.valid_from <= envelope.time < key.valid_until:
        return Asker(refusal=refuse_fields(RejectionCode.KEY_UNKNOWN, {KEY_ID: "must name a key that is in force at ce_time"}))
    if key.is_revoked:
        return Asker(refusal=refuse_fields(RejectionCode.KEY_REVOKED, {KEY_ID: "names a key that is revoked"}))
    if not holds:
        return Asker(refusal=refuse_fields(RejectionCode.SIGNATURE_INVALID, {SIGNATURE: "is not this key's signature of this record"}))
    if key.tenant_id != envelope.tenant_id:
        return Asker(refusal=refuse_fields(RejectionCode.TENANT_MISMATCH, {"ce_tenantid": "must be the tenant of the key"}))
    if envelope.type not in key.intents:
        refusal = refuse_fields(RejectionCode.NOT_AUTHORISED, {"ce_type": "is not an intent that this key may ask for"})
        return Asker(key.principal, key.actor, refusal)
    return Asker(key.principal, key.actor)
