"""Keys for tests: pairs that are made anew, and records that they sign."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from worker.signing_keys import Key

if TYPE_CHECKING:
    from worker.envelope import Record
    from worker.signatures import Signer

LONG_AGO, FAR_OFF = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


def key_of(signer: Signer, *intents: str, **changes: Any) -> Key:  # noqa: ANN401
    """A key in force, of tenant acme."""
    described: dict[str, Any] = {
        "public_key": signer.public_key,
        "tenant_id": "acme",
        "principal": "importer",
        "valid_from": LONG_AGO,
        "valid_until": FAR_OFF,
        "is_revoked": False,
        "intents": frozenset(f"{name}Requested" for name in intents),
        "actor": None,
    }
    return Key(**{**described, **changes})


def signed(record: Record, signer: Signer) -> Record:
    return record._replace(headers=signer.sign(record.headers, record.value or b""))  # type: ignore[arg-type]
