"""Ids that follow from what they name, so that a retry or a rebuild makes the same ones."""

from hashlib import sha1
from uuid import UUID

_NAMESPACE = UUID("0207f3fb-2f2c-5120-a4ef-9e5579b87cb1").bytes


def uid(kind: str, *parts: str) -> UUID:
    """UUIDv5 (RFC 9562 §5.5) of kind and parts, joined by LF; unambiguous, since no part may hold a control character.

    Equals `uuid.uuid5(namespace, name)`, at half its price: this runs for every fact.
    """
    name = "\n".join((kind, *parts)).encode()
    digest = bytearray(sha1(_NAMESPACE + name, usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    return UUID(bytes=bytes(digest))
