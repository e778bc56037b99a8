"""Records that no honest producer sends, made from honest ones: undecodable, flooded, huge, of another time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from worker.domain.fields import format_rfc3339

if TYPE_CHECKING:
    import random

    from tests.faults.harness.intents import Publication

_SKEWS = (timedelta(minutes=4), timedelta(minutes=10), timedelta(days=400), timedelta(hours=-1), timedelta(days=-29), timedelta(days=-31))


def poisoned(good: Publication, chance: random.Random) -> Publication:
    """`good` keeps its id only where the value is garbage: that id was used up, for another content."""
    own = with_headers(good, ce_id=b"poison-%d" % chance.getrandbits(60))
    garbage = chance.randbytes(chance.randrange(200))
    flood = [(f"x-{number}", garbage) for number in range(chance.randrange(300, 900))]
    kinds = (
        good._replace(value=garbage),
        own._replace(value=garbage),
        own._replace(value=b"\xc3\x01" + garbage),
        own._replace(value=(own.value or b"") + b"\x00"),
        own._replace(value=None),
        own._replace(key=None),
        own._replace(key=garbage),
        own._replace(value=chance.randbytes(chance.randrange(260_000, 700_000))),
        own._replace(headers=[*own.headers, *flood]),
        own._replace(headers=[*own.headers, *own.headers]),
        own._replace(headers=[]),
        own._replace(key=None, value=None, headers=[]),
        own._replace(headers=[(name, garbage + b"\xff") for name, _ in own.headers]),
        own._replace(headers=[*own.headers, ("", b""), ("\N{SKULL}", None)]),
        with_headers(own, ce_tenantid=None),
        with_headers(own, ce_type=b"sre.core.v1.DropEverythingRequested"),
        with_headers(own, ce_time=b"yesterday"),
        with_headers(own, ce_subject=b"a\x00b")._replace(key=b"a\x00b"),
    )
    return chance.choice(kinds)


def skewed(good: Publication, chance: random.Random) -> Publication:
    """Asked at a time that the worker's clock may find too late or too early, or only just not."""
    time = format_rfc3339(datetime.now(UTC) + chance.choice(_SKEWS)).encode()
    return with_headers(good, ce_time=time, ce_id=b"skewed-%d" % chance.getrandbits(60))


def with_headers(record: Publication, **changes: bytes | None) -> Publication:
    headers = {**dict(record.headers), **changes}
    return record._replace(headers=[(name, value) for name, value in headers.items() if value is not None])
