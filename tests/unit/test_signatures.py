"""The bytes that are signed, and the headers of a signature."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from worker.signatures import Signer, SigningKeyError, decode, encode, is_good, key_id_of, signed_bytes, without_signature

# docs/contract.md, Test vectors
VECTOR = Signer.of(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
HEADERS = {
    "ce_tenantid": b"acme",
    "ce_id": b"0b7c6a52-5d0e-4c1b-9f0e-2a6f5d0c9a11",
    "ce_source": b"/integrations/alertmanager",
    "ce_type": b"sre.core.v1.IngestAlertRequested",
    "ce_time": b"2026-03-02T00:00:00Z",
    "ce_subject": b"465e4372-b4a6-51a0-a35b-05796e141dcf",
    "content-type": b"application/avro",
}
VALUE = b"\xc3\x01"
PUBLIC_KEY = b"A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"
SIGNATURE = b"qC0KNaAbe1eJRnAS6tgCHccThlqwkbjTkvZuwUUJe7XZKUq75ai4zg9wY54sU97_vkvEmRgKKknbBKD2XMSDDQ"

parts = st.fixed_dictionaries({name: st.binary(max_size=40) for name in HEADERS})


def good(headers: dict[str, bytes], value: bytes, signature: bytes = SIGNATURE) -> bool:
    decoded = decode(signature)
    return decoded is not None and is_good(VECTOR.public_key, decoded, signed_bytes(headers, value))


def test_the_contract_s_vector_holds() -> None:
    assert encode(VECTOR.public_key) == PUBLIC_KEY
    signed = VECTOR.sign(tuple(HEADERS.items()), VALUE)
    assert dict(signed) == {**HEADERS, "ce_keyid": VECTOR.key_id.encode(), "ce_signature": SIGNATURE}
    assert good(HEADERS, VALUE)


def test_a_key_s_id_follows_from_the_key() -> None:
    assert VECTOR.key_id == key_id_of(VECTOR.public_key) == "56475aa75463474c"
    assert Signer.generate().key_id != VECTOR.key_id


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("change", [lambda old: old + b"x", lambda old: old[:-1], lambda _: b""])
def test_a_changed_header_breaks_the_signature(name: str, change: object) -> None:
    assert callable(change)
    assert not good({**HEADERS, name: change(HEADERS[name])}, VALUE)


def test_a_missing_header_breaks_the_signature() -> None:
    for name in HEADERS:
        assert not good({other: text for other, text in HEADERS.items() if other != name}, VALUE)


def test_headers_that_are_not_signed_may_change() -> None:
    assert good({**HEADERS, "ce_traceparent": b"00-ab-cd-01", "ce_correlationid": b"c", "ce_specversion": b"1.0"}, VALUE)


@given(st.sampled_from([*HEADERS, "value", "signature"]), st.integers(0, 2**16), st.integers(1, 255))
def test_any_flipped_byte_breaks_the_signature(part: str, place: int, flip: int) -> None:
    everything = {**HEADERS, "value": VALUE, "signature": decode(SIGNATURE) or b""}
    flipped = bytearray(everything[part])
    flipped[place % len(flipped)] ^= flip
    everything[part] = bytes(flipped)
    value, signature = everything.pop("value"), everything.pop("signature")
    assert not good(everything, value, encode(signature))


@given(parts, st.binary(max_size=40), parts, st.binary(max_size=40))
def test_two_records_never_share_what_is_signed(one: dict[str, bytes], value: bytes, other: dict[str, bytes], last: bytes) -> None:
    assert (signed_bytes(one, value) == signed_bytes(other, last)) == (one == other and value == last)


@given(st.text(min_size=1, max_size=30), st.integers(0, 30))
def test_what_moves_from_one_part_to_the_next_is_another_record(text: str, cut: int) -> None:
    together = text.encode()
    whole = {**HEADERS, "ce_id": together, "ce_source": b""}
    split = {**HEADERS, "ce_id": together[:cut], "ce_source": together[cut:]}
    assert (signed_bytes(whole, VALUE) == signed_bytes(split, VALUE)) == (whole == split)


@given(st.binary(max_size=100))
def test_a_signature_of_any_bytes_fails_and_nothing_else(garbage: bytes) -> None:
    assert not is_good(VECTOR.public_key, garbage, b"signed")
    decoded = decode(garbage)
    assert decoded is None or encode(decoded) == garbage


def test_a_signature_has_one_spelling() -> None:
    assert decode(SIGNATURE) is not None
    last = SIGNATURE[-1:]
    assert last == b"Q"  # of its six bits the first two are the signature's
    others = [SIGNATURE[:-1] + bytes([spelling]) for spelling in b"RSTUVWXYZabcdef"]
    others += [SIGNATURE + b"==", SIGNATURE + b"\n", b" " + SIGNATURE, SIGNATURE.replace(b"_", b"/")]
    others += [SIGNATURE[:40] + b"*" + SIGNATURE[40:]]
    assert [decode(other) for other in others] == [None] * len(others)


def test_a_key_survives_its_file(tmp_path: Path) -> None:
    signer, file = Signer.generate(), tmp_path / "key.pem"
    file.write_bytes(signer.pem())
    read = Signer.from_file(file)
    assert (read.key_id, read.public_key) == (signer.key_id, signer.public_key)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"no key at all: hunter2", "holds no private key in PEM"),
        (
            Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
            "holds no private key in PEM, or an encrypted one",
        ),
        (X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "of another kind than Ed25519"),
    ],
)
def test_a_file_without_a_key_is_named_and_not_quoted(tmp_path: Path, content: bytes, fault: str) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(content)
    with pytest.raises(SigningKeyError, match=fault) as raised:
        Signer.from_file(file)
    assert "hunter2" not in str(raised.value)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SigningKeyError, match=r"none\.pem can't be read: No such file"):
        Signer.from_file(tmp_path / "none.pem")


def test_a_new_signature_takes_the_place_of_any_other() -> None:
    once = VECTOR.sign((*HEADERS.items(), ("ce_keyid", b"x"), ("ce_signature", b"y"), ("ce_keyid", b"z")), VALUE)
    assert once == VECTOR.sign(tuple(HEADERS.items()), VALUE) == VECTOR.sign(once, VALUE)
    assert without_signature(once) == tuple(HEADERS.items())


def test_the_page_on_signatures_shows_how_to_make_the_vector() -> None:
    page = (Path(__file__).parents[2] / "docs" / "signatures.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - of our own page
    headers = {name: value.encode() for name, value in re.findall(r"^\| `([a-z_-]+)` \| `([^`]+)` \|$", page, re.MULTILINE)}
    assert headers == HEADERS
    signed = names["sign"](headers, VALUE, VECTOR.private_key)
    assert signed == dict(VECTOR.sign(tuple(HEADERS.items()), VALUE))
    assert {f"`{text}`" in page for text in (PUBLIC_KEY.decode(), VECTOR.key_id, SIGNATURE.decode())} == {True}
