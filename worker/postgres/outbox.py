"""Facts and rejections on their way out: one row a Kafka record, as the relay (or Debezium's EventRouter) takes it from the WAL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from worker.postgres.named_sql import statements

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from psycopg import AsyncConnection


class OutboxRow(NamedTuple):
    """Columns of table outbox; None and an empty tenant_id are headers that the record goes without."""

    id: UUID
    aggregatetype: str
    aggregateid: str
    type: str
    payload: bytes
    topic: str
    key: bytes | None
    partition: int
    tenant_id: str
    aggregate_version: int | None
    ce_time: str
    subject: str | None
    correlation_id: str | None
    causation_id: str | None
    traceparent: str | None
    tracestate: str | None
    principal: str | None


async def insert(connection: AsyncConnection[Any], rows: Sequence[OutboxRow]) -> None:
    """Append the rows in their order, which is that of the WAL and so of the topic."""
    columns = {name: _array(values) for name, values in zip(OutboxRow._fields, zip(*rows, strict=True), strict=True)}
    await connection.execute(statements("outbox")["insert_outbox"], columns)


def _array(values: tuple[object, ...]) -> list[object] | None:
    """No array where all are None: unnest pads it with nulls to the length of the others."""
    return None if values.count(None) == len(values) else list(values)
