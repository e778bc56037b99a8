"""A line of `sre-domain publish`: a record that the worker decides on, or faults."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.fuzz.oracles import verdict_of
from tests.support.records import CODEC
from worker.cli.bus import outgoing_from_line
from worker.envelope import Record
from worker.receiving import Fit, Unfit

if TYPE_CHECKING:
    from collections.abc import Iterator


def check(data: bytes) -> None:
    try:
        outgoing = outgoing_from_line(data.decode(), CODEC)
    except ValueError:
        return
    verdict = verdict_of(Record(outgoing.topic, 0, 0, 1_773_057_600_000, outgoing.key, outgoing.value, outgoing.headers))
    assert isinstance(verdict, Fit | Unfit) or verdict.rejection.code in ("INTENT_EXPIRED", "TIMESTAMP_IN_FUTURE"), verdict


def seeds() -> Iterator[bytes]:
    target = {"good": "g", "total": "t", "budgeting_method": "occurrences"}
    data = {"name": "n", "target": 99.5, "window": "7d", "sli_spec": target, "owner": "o", "scope": "s", "actor": "a"}
    yield json.dumps({"type": "CreateSLO", "tenant": "acme", "key": "checkout", "id": "one", "data": data}).encode()
    window = {"start": "2026-03-08T00:00:00Z", "width_seconds": 60, "good": 1, "total": 2}
    line = {"type": "RecordSLIWindow", "tenant": "acme", "key": "c", "time": "2026-03-09T12:00:00Z", "data": window}
    yield json.dumps(line).encode()
    alert = {"source": "custom", "fingerprint": "f", "name": "n", "severity": "low", "status": "firing", "labels": {"a": "b"}}
    yield json.dumps({"type": "IngestAlert", "tenant": "acme", "key": "0b7c6a52-5d0e-4c1b-9f0e-2a6f5d0c9a11", "data": alert}).encode()
