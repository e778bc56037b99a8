"""What is there only where it was asked for: signatures and keys, a schema registry, an address for probes."""

from __future__ import annotations

import socket
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Final

from worker.doctor.database import asked, session
from worker.doctor.finding import fail, not_checked, ok, warn
from worker.signatures import Signer, SigningKeyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.doctor.finding import Finding
    from worker.settings import Settings

_TIMEOUT_SECONDS: Final = 5.0
_LOOPBACK: Final = "127.0.0.1"

UNSIGNED = ok("off: a tenant's name on an intent is as good as the brokers' ACLs")
NO_KEYS = fail(
    "required, and no key is in force: every intent is refused",
    "make keys with sre-domain keys new, or set SRE_SIGNATURES to warn meanwhile",
)
NO_KEYS_YET = warn("looked at, and no key is in force", "make keys with sre-domain keys new before signatures are required")
ENDING = warn("keys end within two weeks: {keys}", "make new ones with sre-domain keys new, give them to their holders, then revoke these")
SIGNED = ok("{mode}, {count} keys in force")
OWN_UNREADABLE = fail("SRE_SIGNING_KEY_FILE: {why}", "make a key with sre-domain keys new, or mend the file")
OWN_UNKNOWN = fail("key {key} of SRE_SIGNING_KEY_FILE is not known to this database", "make it with sre-domain keys new")
OWN_REVOKED = fail("key {key} of SRE_SIGNING_KEY_FILE is revoked", "make another one with sre-domain keys new")
OWN_EXPIRED = fail("key {key} of SRE_SIGNING_KEY_FILE is not in force now", "make another one with sre-domain keys new")

NO_REGISTRY = not_checked("SRE_SCHEMA_REGISTRY_URL is not set")
REGISTRY_AWAY = fail("does not answer: {why}", "mend SRE_SCHEMA_REGISTRY_URL or the registry; intents in its framing wait meanwhile")
REGISTRY = ok("answers, with {count} subjects")

NO_ADDRESS = not_checked("SRE_HEALTH_ADDRESS is not set: nobody answers probes")
TAKEN = fail("{address} can't be listened on: {why}", "give SRE_HEALTH_ADDRESS a port that nobody has")
ANSWERS = ok("a service of ours answers at {address}")
FREE = ok("{address} is free")


def check_signatures(dsn: str, settings: Settings) -> Iterator[Finding]:
    with session(dsn) as connection:
        (keys,) = asked(connection, "signing_keys")
    own = list(_own_key(dsn, settings.signing_key_file)) if settings.signing_key_file is not None else []
    yield from own
    if settings.signatures == "off":
        if not own:
            yield UNSIGNED.of()
        return
    if keys["in_force"] == 0:
        yield NO_KEYS.of() if settings.signatures == "require" else NO_KEYS_YET.of()
    elif keys["ending"]:
        yield ENDING.of(keys=", ".join(keys["ending"]))
    elif not own:
        yield SIGNED.of(mode=settings.signatures, count=keys["in_force"])


def _own_key(dsn: str, file: str) -> Iterator[Finding]:
    try:
        key_id = Signer.from_file(Path(file)).key_id
    except SigningKeyError as error:
        yield OWN_UNREADABLE.of(why=error)
        return
    with session(dsn) as connection:
        known = asked(connection, "signing_key", key_id=key_id)
    if not known:
        yield OWN_UNKNOWN.of(key=key_id)
    elif known[0]["is_revoked"]:
        yield OWN_REVOKED.of(key=key_id)
    elif not known[0]["is_in_force"]:
        yield OWN_EXPIRED.of(key=key_id)


def check_registry(url: str | None) -> Iterator[Finding]:
    """The URL may hold a password: no line repeats it, nor what a client says of it."""
    if url is None:
        yield NO_REGISTRY.of()
        return
    from confluent_kafka.schema_registry import SchemaRegistryClient  # noqa: PLC0415 - slow to import, and few have a registry
    from confluent_kafka.schema_registry.error import SchemaRegistryError  # noqa: PLC0415

    try:
        subjects = SchemaRegistryClient({"url": url, "timeout": _TIMEOUT_SECONDS, "max.retries": 0}).get_subjects()
    except SchemaRegistryError as error:
        yield REGISTRY_AWAY.of(why=f"status {error.http_status_code}")
    except Exception as error:  # noqa: BLE001 - of its HTTP client, which is not ours to know
        yield REGISTRY_AWAY.of(why=type(error).__name__)
    else:
        yield REGISTRY.of(count=len(subjects))


def check_health_address(address: str | None) -> Iterator[Finding]:
    if address is None:
        yield NO_ADDRESS.of()
        return
    host, _, port = address.rpartition(":")
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, int(port)))
    except (OSError, OverflowError) as error:
        yield ANSWERS.of(address=address) if _answers(host or _LOOPBACK, int(port)) else TAKEN.of(address=address, why=error)
    else:
        yield FREE.of(address=address)


def _answers(host: str, port: int) -> bool:
    connection = HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/livez")
        return b'"reasons"' in connection.getresponse().read(4096)
    except (OSError, HTTPException, OverflowError):
        return False
    finally:
        connection.close()
