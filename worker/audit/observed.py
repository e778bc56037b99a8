"""What an audit is given, and how it is read: records as they lie in their topics, rows as they lie in their tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from worker.domain.aggregate import AGGREGATES
from worker.domain.fields import parse_rfc3339
from worker.domain.outcome import Context

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Mapping, Sequence
    from uuid import UUID

    from worker.codec import Codec
    from worker.envelope import Record

Subject = tuple[str, str, str]
"""Aggregate type, tenant, aggregate id."""


class Outcome(NamedTuple):
    """A row of the inbox."""

    tenant_id: str
    intent_id: str
    content_hash: bytes
    topic: str
    partition: int
    offset: int
    outcome: str
    code: str | None
    fact_ids: list[UUID]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that was read: the intent topics whole, the outgoing topics as a read_committed reader saw them, and the tables.

    `published` is in the order in which it was read; `states` by subject.
    """

    intents: Sequence[Record]
    published: Sequence[Record]
    outcomes: Sequence[Outcome]
    outbox_ids: Sequence[UUID]
    states: Mapping[Subject, Any]
    partitions: Mapping[str, int]


class SeenFact(NamedTuple):
    """A fact as it lies in its topic, decoded."""

    subject: Subject
    version: int
    name: str
    fact: Any
    context: Context
    place: str


def see(record: Record, codec: Codec) -> SeenFact:
    """Raises KeyError or ValueError where it is not a fact that this version knows."""
    headers = header_values(record)
    subject, name = subject_of(record), headers["ce_type"].rpartition(".")[2]
    fact = AGGREGATES[subject[0]].facts[name].validate_python(codec.decode(name, record.value or b""))
    context = Context(subject[1], subject[2], parse_rfc3339(headers["ce_time"]))
    return SeenFact(subject, int(headers["ce_aggregateversion"]), name, fact, context, place(record))


def header_values(record: Record) -> dict[str, str]:
    return {name: value.decode(errors="replace") for name, value in record.headers if value is not None}


def subject_of(record: Record) -> Subject:
    headers = header_values(record)
    return headers["ce_aggregatetype"], headers["ce_tenantid"], headers["ce_aggregateid"]


def repeated(invariant: int, what: str, counts: Counter[Any]) -> Iterator[str]:
    for item, count in counts.items():
        if count > 1:
            yield f"{invariant}: {count} {what}: {item}"


def place(record: Record) -> str:
    return f"{record.topic}[{record.partition}]@{record.offset}"
