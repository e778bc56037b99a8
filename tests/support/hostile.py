"""Records that mean harm: one good intent, and what a stranger may make of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from tests.support.records import CODEC, NOW
from worker.client import Intent, to_outgoing
from worker.domain.aggregate import intent_name
from worker.domain.runbook import CreateRunbook, RunbookStep
from worker.envelope import MAX_VALUE_BYTES, Header, Record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

TOPIC: Final = "sre.runbook.intents.v1"
NAME: Final = "CreateRunbookRequested"

TEXTS: Final = {
    "sql": "'; DROP TABLE inbox; --",
    "sql-arrays": '{"a","b"}\\,NULL',
    "log": "x\n2026-03-09 12:00:00,000 CRITICAL worker.agents all is lost",
    "format": "%s %(name)s {0.__class__} ${jndi:ldap://x}",
    "terminal": "\x1b]0;owned\x07\x1b[2J\x9b31m",
    "bidi": "\u202etxt.exe\u2066",
    "separators": "\u2028\u2029\x85",
    "invisible": "\ufeff\u200b\u2060",
    "nul": "a\0b",
    "markup": "[link=file:///etc/passwd]x[/link]<script>",
    "path": "../../../../etc/passwd",
    "long": "a" * 10_000,
    "zalgo": "e" + "\u0301" * 500,
    "astral": "\U0010ffff\U0001f600",
}
"""By what they are meant for."""


class Hostile(NamedTuple):
    """A record's parts, and the codes of which it must get one; None stands for being taken."""

    key: bytes | None
    value: bytes | None
    headers: list[Header]
    codes: tuple[str | None, ...]


def varint(number: int) -> bytes:
    """Avro's zigzag encoding of a long."""
    rest = (number << 1 ^ number >> 63) & (1 << 64) - 1
    encoded = bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*encoded, rest])


def text(value: bytes) -> bytes:
    return varint(len(value)) + value


def good(number: int, time: datetime = NOW) -> Hostile:
    """An intent that is taken, as it is."""
    step = RunbookStep(step_id="a", title="t")
    command = CreateRunbook(title="t", steps=(step,), automation_level="manual", approval_required=False, owner="o", actor="a")
    runbook_id = f"runbook-{number}"
    intent = Intent(intent_name(CreateRunbook), "acme", runbook_id, command, "/tests", intent_id=f"intent-{number}", time=time)
    outgoing = to_outgoing(intent, CODEC)
    return Hostile(outgoing.key, outgoing.value, list(outgoing.headers), (None,))


def to_record(hostile: Hostile, offset: int = 0) -> Record:
    return Record(TOPIC, 0, offset, int(NOW.timestamp() * 1000), hostile.key, hostile.value, hostile.headers)


def hostile_records(time: datetime = NOW) -> dict[str, Hostile]:
    """By name. Each has an id of its own, so that none is taken for another's repeat."""
    found: dict[str, Hostile] = {}
    for number, (name, hostile) in enumerate((*_values(time), *_headers(time)), 1000):
        headers: list[Header] = [
            (header, b"hostile-%d" % number if header == "ce_id" and value == b"intent-1" else value) for header, value in hostile.headers
        ]
        assert name not in found
        found[name] = hostile._replace(headers=headers)
    return found


def _values(time: datetime) -> Iterator[tuple[str, Hostile]]:
    framed, base = CODEC.headers[NAME], good(1, time)
    start, end = text(b"t") + text(b"d"), b"\0" + text(b"manual") + b"\0" + text(b"o") + b"\0" + text(b"a")
    room = MAX_VALUE_BYTES - 100

    def value(datum: bytes, *codes: str | None) -> Hostile:
        return base._replace(value=framed + datum, codes=codes or ("SCHEMA_INVALID",))

    def steps(count: int, item: bytes) -> bytes:
        return start + b"\0" + varint(count) + item * count + end

    def triggers(count: int, item: bytes) -> bytes:
        return start + varint(count) + item * count + b"\0" + end

    yield "a quarter of a million blank lines", value(triggers(room, b"\0"))
    yield "a hundred thousand lines", value(triggers(room // 2, b"\x02a"), "LIMIT_EXCEEDED")
    yield "a hundred thousand empty steps", value(steps(room // 4, b"\0\0\0\0"))
    yield "thirty thousand steps", value(steps(room // 7, b"\x02a\x02a\x02a\0"), "LIMIT_EXCEEDED")
    yield "a count of items without items", value(start + varint(2**62))
    yield "a negative count of items", value(start + varint(-(2**62)) + varint(4))
    yield "the least count of items", value(start + varint(-(2**63)) + varint(1) + b"\0" * 20)
    sized = start + varint(-1) + varint(2**62) + text(b"x") + b"\0" * 2 + end
    yield "a block of a huge size", value(sized, None, "SCHEMA_INVALID", "STEPS_EMPTY")
    yield "blocks without end", value(start + (varint(1) + text(b"x")) * 80_000)
    yield "a text of a huge length", value(varint(2**62) + b"x")
    yield "a text of a negative length", value(varint(-1) + b"x" * 50)
    yield "a text of the least length", value(varint(-(2**63)) + b"x" * 50)
    yield "a number without end", value(b"\x80" * 200_000)
    yield "a number of 71 bits", value(b"\xff" * 10 + b"\x01")
    rest = text(b"d") + b"\0" + varint(1) + b"\x02a\x02a\x02a\0" + end
    yield "a length of 65 bits that would be cut to 1", value(b"\x82" + b"\x80" * 8 + b"\x02" + b"t" + rest)
    yield "bytes behind the datum", value(steps(1, b"\x02a\x02a\x02a\0") + b"\0")
    yield "a text that is not UTF-8", value(text(b"\xc3\x28") + text(b""))
    yield "a surrogate in UTF-8", value(text(b"\xed\xa0\x80") + text(b""))
    yield "an overlong NUL", value(text(b"\xc0\x80") + text(b""))
    yield "no such branch of a union", value(start + b"\0" + varint(1) + b"\x02a\x02a\x02a\x7f" + end)
    yield "nothing behind the framing", value(b"")
    yield "one byte", base._replace(value=b"\xc3", codes=("SCHEMA_INVALID",))
    yield "the registry's framing", base._replace(value=b"\0\0\0\0\1" + steps(1, b"\x02a\x02a\x02a\0"), codes=("SCHEMA_INVALID",))
    yield "JSON", base._replace(value=b"[" * 100_000, codes=("SCHEMA_INVALID",))
    yield "a value of the largest size", base._replace(value=framed + b"\xff" * (MAX_VALUE_BYTES - len(framed)), codes=("SCHEMA_INVALID",))
    yield "a value a byte too large", base._replace(value=b"x" * (MAX_VALUE_BYTES + 1), codes=("MESSAGE_TOO_LARGE",))
    yield "a tombstone", base._replace(value=None, codes=("SCHEMA_INVALID",))
    for name, hostile in TEXTS.items():
        codes: tuple[str | None, ...] = ("SCHEMA_INVALID", "LIMIT_EXCEEDED", None)
        encoded = hostile.encode()
        titled = text(encoded) + text(encoded) + b"\0" + varint(1) + b"\x02a\x02a\x02a\0" + b"\0" + text(b"manual") + b"\0"
        yield f"{name} in every text", value(titled + text(encoded) + b"\0" + text(encoded), *codes)


def _headers(time: datetime) -> Iterator[tuple[str, Hostile]]:
    base = good(1, time)

    def headers(changes: dict[str, bytes | None], *codes: str | None, more: list[Header] | None = None) -> Hostile:
        changed = [(name, changes.get(name, value)) for name, value in base.headers if changes.get(name, b"") is not None]
        key = changes.get("ce_subject") or base.key
        return Hostile(key, base.value, [*changed, *(more or [])], codes or ("SCHEMA_INVALID",))

    for what, hostile in TEXTS.items():
        yield f"{what} as tenant", headers({"ce_tenantid": hostile.encode()}, "TENANT_REQUIRED")
        yield f"{what} as id", headers({"ce_id": hostile.encode()}, "SCHEMA_INVALID", None)
        yield f"{what} as subject", headers({"ce_subject": hostile.encode()}, "SCHEMA_INVALID", "LIMIT_EXCEEDED")
        yield f"{what} as tracestate", headers({}, None, more=[("ce_tracestate", hostile.encode())])
    tenants = {"cyrillic": "\u0430cme", "full width": "\uff41cme", "a space": "acme ", "a line end": "acme\n", "a slash": "acme/x"}
    for what, tenant in tenants.items():
        yield f"a tenant with {what}", headers({"ce_tenantid": tenant.encode()}, "TENANT_REQUIRED")
    yield "a tenant in capitals is another one", headers({"ce_tenantid": b"ACME"}, None)
    yield "a tenant with a dot behind is another one", headers({"ce_tenantid": b"acme."}, None)
    times = ("0000-01-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-03-09T23:59:60Z", "2026-03-09T12:00:00+99:99", "9" * 5_000, "\u0661")
    for number, wrong in enumerate(times):
        yield f"a time that is none, {number}", headers({"ce_time": wrong.encode()})
    yield "a time in the year 9999", headers({"ce_time": b"9999-12-31T23:59:59.999999999Z"}, "TIMESTAMP_IN_FUTURE")
    yield "a time in the year 9999 beyond the end of UTC's", headers({"ce_time": b"9999-12-31T23:59:59-01:00"})
    yield "a time in the year 1", headers({"ce_time": b"0001-01-01T00:00:00Z"}, "INTENT_EXPIRED")
    yield "a time of many digits", headers({"ce_time": f"{time:%Y-%m-%dT%H:%M:%S}.{'9' * 10_000}Z".encode()}, None)
    yield "a type of another topic", headers({"ce_type": b"sre.core.v1.CreateSLORequested"}, "UNKNOWN_INTENT")
    yield "a type that is a path", headers({"ce_type": b"sre.core.v1.../../x"}, "UNKNOWN_INTENT")
    yield "every header twice", base._replace(headers=base.headers * 2, codes=("TENANT_REQUIRED",))
    yield "no headers", base._replace(headers=[], codes=("TENANT_REQUIRED",))
    yield "nothing at all", Hostile(None, None, [], ("TENANT_REQUIRED",))
    yield "headers that are null", base._replace(headers=[(name, None) for name, _ in base.headers], codes=("TENANT_REQUIRED",))
    yield "headers that are no text", base._replace(headers=[(name, b"\xff\xfe") for name, _ in base.headers], codes=("TENANT_REQUIRED",))
    flood: list[Header] = [(f"{number % 20_000:x}", b"") for number in range(40_000)]
    yield "a flood of names, each twice", headers({}, "MESSAGE_TOO_LARGE", more=flood)
    yield "a flood of empty headers", headers({}, None, more=[("", None)] * 50_000)  # librdkafka reads up to 100,000
    yield "a header of a megabyte", headers({}, "MESSAGE_TOO_LARGE", more=[("x", b"x" * 900_000)])
    yield "a header's name of a megabyte", headers({}, "MESSAGE_TOO_LARGE", more=[("x" * 900_000, b"")])
    yield "a subject of half a megabyte", headers({"ce_subject": b"a" * 450_000}, "MESSAGE_TOO_LARGE")
    yield "a key of a megabyte", base._replace(key=b"k" * 900_000, codes=("SCHEMA_INVALID",))
    yield "a trace of 16 KiB", headers({}, None, more=[("ce_tracestate", b"a" * 15_000)])
