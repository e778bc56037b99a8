"""Ed25519 signatures of intents, docs/signatures.md: the bytes that are signed, and a record's two headers made and read."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Self, TypeVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from worker.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

KEY_ID: Final = "ce_keyid"
SIGNATURE: Final = "ce_signature"
_VERSION: Final = b"v1"
_SIGNED_HEADERS: Final = ("ce_tenantid", "ce_id", "ce_source", "ce_type", "ce_time", "ce_subject", "content-type")
_KEY_ID_BYTES: Final = 8

Value = TypeVar("Value")


class SigningKeyError(WorkerError):
    """The file of the signing key can't be read, or holds none."""


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key, and the id under which the worker knows its public one."""

    key_id: str
    private_key: Ed25519PrivateKey

    @classmethod
    def generate(cls) -> Self:
        return cls.of(Ed25519PrivateKey.generate())

    @classmethod
    def of(cls, private_key: Ed25519PrivateKey) -> Self:
        return cls(key_id_of(private_key.public_key().public_bytes_raw()), private_key)

    @classmethod
    def from_file(cls, file: Path) -> Self:
        """A private key as PKCS #8 in PEM, not encrypted. Raises SigningKeyError."""
        try:
            key = load_pem_private_key(file.read_bytes(), password=None)
        except OSError as error:
            raise SigningKeyError(f"the signing key {file} can't be read: {error.strerror}") from None
        except (ValueError, TypeError, UnsupportedAlgorithm):  # what they say may quote the file
            raise SigningKeyError(f"{file} holds no private key in PEM, or an encrypted one") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise SigningKeyError(f"{file} holds a key of another kind than Ed25519")
        return cls.of(key)

    @property
    def public_key(self) -> bytes:
        return self.private_key.public_key().public_bytes_raw()

    def pem(self) -> bytes:
        return self.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, headers: Sequence[tuple[str, bytes]], value: bytes) -> tuple[tuple[str, bytes], ...]:
        """The headers with this key's signature in the place of any other."""
        signature = self.private_key.sign(signed_bytes(dict(headers), value))
        return (*without_signature(headers), (KEY_ID, self.key_id.encode()), (SIGNATURE, encode(signature)))


def key_id_of(public_key: bytes) -> str:
    """It follows from the key, so that it can't be given to another one: 16 hex digits of the key's SHA-256."""
    return sha256(public_key).digest()[:_KEY_ID_BYTES].hex()


def signed_bytes(headers: Mapping[str, bytes | None], value: bytes) -> bytes:
    """What is signed: each part after its length as 4 bytes big-endian, so that no two records share it."""
    parts = (_VERSION, *((headers.get(name) or b"") for name in _SIGNED_HEADERS), value)
    return b"".join([len(part).to_bytes(4, "big") + part for part in parts])


def is_good(public_key: bytes, signature: bytes, signed: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, signed)
    except InvalidSignature:
        return False
    return True


def encode(signature: bytes) -> bytes:
    """Base64url without padding."""
    return urlsafe_b64encode(signature).rstrip(b"=")


def decode(text: bytes) -> bytes | None:
    """None unless it is just what encode() writes: other bytes for the same signature are no signature."""
    try:
        signature = urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    except ValueError:
        return None
    return signature if encode(signature) == text else None


def is_signed(headers: Iterable[tuple[str, bytes | None]]) -> bool:
    return any(name in {KEY_ID, SIGNATURE} for name, _ in headers)


def without_signature(headers: Iterable[tuple[str, Value]]) -> tuple[tuple[str, Value], ...]:
    return tuple((name, value) for name, value in headers if name not in {KEY_ID, SIGNATURE})
