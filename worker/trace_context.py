"""What an intent or a fact says of the trace that it belongs to (W3C Trace Context, level 2), and what a log line says of an intent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from worker.envelope import optional_headers, salvage

if TYPE_CHECKING:
    from worker.envelope import Record

_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_ODD: Final = frozenset("13579bdf")  # the lowest bit of the flags, which end a traceparent, is "sampled"


def trace_id_of(traceparent: str | None) -> str | None:
    """None for what is no traceparent: whoever sends an intent can write there what they like."""
    found = _TRACEPARENT.fullmatch(traceparent or "")
    return None if found is None else found[1]


def is_sampled(traceparent: str | None) -> bool:
    """Whether whoever began the trace wants its spans to be recorded."""
    if traceparent is None or traceparent[-1:] not in _ODD:  # most are not, and it is asked for every intent
        return False
    return _TRACEPARENT.fullmatch(traceparent) is not None


def traceparent_of(record: Record) -> str | None:
    return optional_headers(record, ["ce_traceparent"])[0]


def about(record: Record) -> dict[str, str]:
    """Fields of a log line that concerns one intent: those of its ids that are well-formed."""
    saved = salvage(record)
    found = {"intent_id": saved.intent_id, "tenant_id": saved.tenant_id, "trace_id": trace_id_of(saved.trace.traceparent)}
    return {name: value for name, value in found.items() if value is not None}
