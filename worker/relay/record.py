"""A row of the outbox as a Kafka record: topic, partition, key, value and the CloudEvents headers (docs/contract.md, Envelope)."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from worker.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.relay.pgoutput import Relation

Header = tuple[str, str | bytes | None]

_BYTEA, _INT8, _INT4, _TEXT, _VARCHAR, _UUID = 17, 20, 23, 25, 1043, 2950
_TEXTS: Final = (_TEXT, _VARCHAR)
_COLUMNS: Final[dict[str, tuple[int, ...]]] = {
    "id": (_UUID,),
    "type": _TEXTS,
    "ce_time": _TEXTS,
    "subject": _TEXTS,
    "tenant_id": _TEXTS,
    "correlation_id": _TEXTS,
    "causation_id": _TEXTS,
    "traceparent": _TEXTS,
    "tracestate": _TEXTS,
    "principal": _TEXTS,
    "aggregatetype": _TEXTS,
    "aggregateid": _TEXTS,
    "aggregate_version": (_INT8,),
    "topic": _TEXTS,
    "partition": (_INT4,),
    "key": (_BYTEA,),
    "payload": (_BYTEA,),
}
_SPECVERSION: Final = ("ce_specversion", b"1.0")
_SOURCE: Final = ("ce_source", b"/sre-domain")
_CONTENT_TYPE: Final = ("content-type", b"application/avro")


class OutboxShapeError(WorkerError):
    """The published table is not the outbox this relay knows; run the migrations of the same version."""


class Record(NamedTuple):
    topic: str
    partition: int
    key: bytes | None
    value: bytes
    headers: list[Header]


def record_maker(relation: Relation) -> Callable[[Sequence[bytes | None]], Record]:
    """What turns the values of one row into its record. Raises OutboxShapeError where a column is missing or of another type."""
    pick, columns = itemgetter(*_positions(relation)), len(relation.columns)

    def make_record(values: Sequence[bytes | None]) -> Record:
        if len(values) != columns:
            raise OutboxShapeError(f"a row of {relation.name} has {len(values)} values for {columns} columns")
        try:
            return _record(pick(values))
        except (AttributeError, TypeError) as error:
            raise OutboxShapeError(f"a row of {relation.name} has a null where the outbox has none") from error

    return make_record


def _record(row: tuple[Any, ...]) -> Record:
    (fact_id, ce_type, ce_time, subject, tenant_id, correlation_id, causation_id, traceparent, tracestate, principal,
     aggregatetype, aggregateid, aggregate_version, topic, partition, key, payload) = row  # fmt: skip
    headers: list[Header] = [_SPECVERSION, ("ce_id", _uuid(fact_id)), _SOURCE, ("ce_type", ce_type), ("ce_time", ce_time)]
    if subject is not None:
        headers.append(("ce_subject", subject))
    if tenant_id:
        headers.append(("ce_tenantid", tenant_id))
    headers.append(_CONTENT_TYPE)
    if correlation_id is not None:
        headers.append(("ce_correlationid", correlation_id))
    if causation_id is not None:
        headers.append(("ce_causationid", causation_id))
    if traceparent is not None:
        headers.append(("ce_traceparent", traceparent))
    if tracestate is not None:
        headers.append(("ce_tracestate", tracestate))
    if principal is not None:
        headers.append(("ce_principal", principal))
    if aggregate_version is not None:
        headers.append(("ce_aggregatetype", aggregatetype))
        headers.append(("ce_aggregateid", aggregateid))
        headers.append(("ce_aggregateversion", b"%d" % int.from_bytes(aggregate_version, "big")))
    return Record(topic.decode(errors="replace"), int.from_bytes(partition, "big"), key, payload, headers)


def _positions(relation: Relation) -> list[int]:
    found = {column.name: (position, column.type_oid) for position, column in enumerate(relation.columns)}
    wrong = [name for name, oids in _COLUMNS.items() if name not in found or found[name][1] not in oids]
    if wrong:
        table = f"{relation.namespace}.{relation.name}"
        raise OutboxShapeError(f"{table} lacks, or has with another type, the columns {', '.join(wrong)}: run sre-domain migrate")
    return [found[name][0] for name in _COLUMNS]


def _uuid(raw: bytes) -> str:
    digits = raw.hex()  # a third of the cost of str(UUID(bytes=raw))
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
