"""`sre-domain relay rebuild`: publish what is in the outbox and not in the topics, and make a slot that goes on from there without a hole.

A slot is made first, temporary, with the snapshot that belongs to its start: what the snapshot sees is published here, what it doesn't see
the slot will stream. Killed at any point, the next run finds in the topics what this one has published; until the end there is no slot that
a relay could go on from.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from threading import Event
from typing import TYPE_CHECKING, Any, Final, TypeVar

import psycopg
from psycopg import IsolationLevel, errors

from worker.errors import WorkerError
from worker.kafka_config import librdkafka_config
from worker.postgres.named_sql import statements
from worker.postgres.schema_version import check_schema
from worker.relay import replication
from worker.relay.hanging import end_hanging
from worker.relay.lost_topics import topic_ids
from worker.relay.pgoutput import Column, Relation
from worker.relay.published import once_led
from worker.relay.publisher import Publisher
from worker.relay.record import record_maker
from worker.relay.slot import keep_slot
from worker.relay.status import RelayStatus
from worker.relay.survey import STALL_SECONDS, Findings, Place, survey
from worker.relay.waiting import Waiting
from worker.relay.watermark import Watermark, WatermarkError, decode, encode, key_of, read_committed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from psycopg import Connection

    from worker.relay.survey import Tell
    from worker.settings import Settings

ROWS_A_TRANSACTION: Final = 5_000
_ROWS_A_CALL: Final = 500

Row = TypeVar("Row")

logger = logging.getLogger(__name__)


class StreamingError(WorkerError):
    """A relay streams from the slot; nothing was changed."""


class HandedOverError(WorkerError):
    """The outbox was handed over, and the slot is there from which somebody else publishes; nothing was changed."""


class ForeignSlotError(WorkerError):
    """The name is that of a slot which no relay of this database uses; nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A transaction that sees what was committed before `lsn`, and a temporary slot that streams what is committed after."""

    connection: Connection[Any]
    replication: Connection[Any]
    temporary_slot: str
    lsn: int


def rebuild(settings: Settings, tell: Tell, *, dry_run: bool) -> Findings:
    """What was found, and mended unless it is a dry run; `tell` hears what is done, how far it is and of how much.

    Raises the errors above and those of the survey, SchemaError, psycopg.Error and KafkaException.
    """
    dsn, slot, timeout_seconds = settings.relay_dsn, settings.relay_slot, settings.relay_transaction_timeout_seconds
    kafka = librdkafka_config(settings) | {"log_level": 0}
    _refuse_another_schema(dsn)
    refuse_while_streaming(slot_of(dsn, slot), slot)
    if dry_run:
        with snapshot_of_outbox(dsn) as snapshot:
            return survey(snapshot.connection, _place(dsn, slot, kafka), settings, tell)
    with closing(Waiting(Event(), RelayStatus())) as waiting, closing(Publisher(kafka, slot, timeout_seconds, waiting)) as publisher:
        # From here on no relay can publish anything, unless it begins anew and so shuts us out.
        publisher.fence()
        _refuse_beside_successor(dsn, _place(dsn, slot, kafka), slot)
        identity = replication.identity_of(dsn)
        end_hanging(kafka, publisher, waiting, key_of(identity, slot), identity.timeline)
        with snapshot_of_outbox(dsn) as snapshot:
            place = _place(dsn, slot, kafka)
            findings = survey(snapshot.connection, place, settings, tell)
            if not findings.nothing_to_do:
                drop_slot(dsn, slot)
                publish_missing(snapshot, place, publisher, waiting, slot, findings, tell)
                keep_slot(snapshot.replication, snapshot.temporary_slot, slot)
    return findings


def settle(settings: Settings, publisher: Publisher, waiting: Waiting) -> None:
    """Publish what is missing of what is in doubt, for a relay that has its slot and keeps it; all that it streams is later, or skipped.

    Raises the errors of the survey, psycopg.Error, KafkaException and StoppedError.
    """
    dsn, slot = settings.relay_dsn, settings.relay_slot
    kafka = librdkafka_config(settings) | {"log_level": 0}
    with ExitStack() as opened:
        snapshot = waiting.for_call(lambda: opened.enter_context(snapshot_of_outbox(dsn)))
        place = waiting.for_call(lambda: _place(dsn, slot, kafka))
        findings = waiting.for_call(lambda: survey(snapshot.connection, place, settings, _tell_nobody))
        publish_missing(snapshot, place, publisher, waiting, slot, findings, _tell_nobody)
    logger.warning("%d records were missing and are published now", sum(findings.missing.values()))


def _refuse_another_schema(dsn: str) -> None:
    with psycopg.connect(dsn, application_name="sre-domain relay rebuild") as connection:
        check_schema(connection)


def _tell_nobody(*_: object) -> None:
    pass


@contextmanager
def snapshot_of_outbox(dsn: str) -> Iterator[Snapshot]:
    with replication.connect(dsn) as walsender, psycopg.connect(dsn, application_name="sre-domain relay rebuild") as connection:
        name = f"sre_rebuild_{walsender.info.backend_pid}"
        made = walsender.execute(f"CREATE_REPLICATION_SLOT {name} TEMPORARY LOGICAL pgoutput (SNAPSHOT 'export')".encode()).fetchone()
        if made is None:
            raise psycopg.InternalError("CREATE_REPLICATION_SLOT gave no row")
        _name, lsn, exported, _plugin = made
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        with connection.transaction():
            connection.execute(f"SET TRANSACTION SNAPSHOT '{exported}'".encode())
            connection.execute(statements("relay")["see_every_row"])
            connection.execute(statements("rebuild")["fast_sorts"])
            yield Snapshot(connection=connection, replication=walsender, temporary_slot=name, lsn=replication.parse_lsn(lsn))


def publish_missing(
    snapshot: Snapshot, place: Place, publisher: Publisher, waiting: Waiting, slot: str, findings: Findings, tell: Tell
) -> None:
    """The missing rows in transactions of Kafka, with the new watermark in the last."""
    sql = statements("rebuild")
    columns = snapshot.connection.execute(sql["outbox_shape"]).description or ()
    relation = Relation(0, "public", "outbox", tuple(Column(column.name, column.type_code) for column in columns))
    make_record = record_maker(relation)
    key, total = key_of(place.identity, slot), sum(findings.missing.values())
    so_far = place.watermarks.get(key, encode(Watermark(place.identity.timeline, 0)))
    with snapshot.connection.cursor().copy(sql["missing_rows"]) as copy:
        for number, values in enumerate(_a_few_at_a_time(copy.rows(), waiting), start=1):
            publisher.publish(make_record(values))
            if number % ROWS_A_TRANSACTION == 0 and number < total:
                publisher.commit(key, so_far)
                tell("publishing what is missing", number, total)
    # Of a slot that never published anything there is no watermark but 0.
    lsn = snapshot.lsn if total or findings.records else 0
    publisher.commit(key, encode(Watermark(place.identity.timeline, lsn, place.topics)))
    tell("publishing what is missing", total, total)


def _a_few_at_a_time(rows: Iterator[Row], waiting: Waiting) -> Iterator[Row]:
    """The rows, which the server may take long to sort."""
    while some := waiting.for_call(lambda: list(islice(rows, _ROWS_A_CALL))):
        yield from some


def drop_slot(dsn: str, slot: str) -> None:
    """So that no relay goes on from the old one after we have published a part of what it would stream. Raises StreamingError."""
    # A connection of its own: after an error PostgreSQL drops the temporary slots of a session.
    try:
        with psycopg.connect(dsn) as connection:
            connection.execute(statements("rebuild")["drop_slot"], {"slot": slot})
    except errors.UndefinedObject:
        return
    except errors.ObjectInUse as error:
        raise StreamingError(_streaming(slot)) from error


def _place(dsn: str, slot: str, kafka: Mapping[str, Any]) -> Place:
    identity, found = replication.identity_of(dsn), slot_of(dsn, slot)
    key = key_of(identity, slot)
    watermarks = once_led(lambda: read_committed(kafka, key, STALL_SECONDS))
    return Place(slot=found, identity=identity, watermarks=watermarks, topics=topic_ids(kafka))


def slot_of(dsn: str, slot: str) -> Mapping[str, Any] | None:
    """Its row of pg_replication_slots. Raises ForeignSlotError where it is not one of this database and pgoutput."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(statements("rebuild")["slot"], {"slot": slot}).fetchone()
        if row is None:
            return None
        found: Mapping[str, Any] = row[0]
        if (found["slot_type"], found["plugin"], found["database"]) != ("logical", "pgoutput", connection.info.dbname):
            raise ForeignSlotError(
                f"slot {slot} is of database {found['database']} and plugin {found['plugin']}: set another SRE_RELAY_SLOT"
            )
        return found


def refuse_while_streaming(found: Mapping[str, Any] | None, slot: str) -> None:
    if found is not None and found["active"]:
        raise StreamingError(_streaming(slot))


def _refuse_beside_successor(dsn: str, place: Place, slot: str) -> None:
    with suppress(WatermarkError):  # which is what the rebuild is for
        value = place.watermarks.get(key_of(place.identity, slot))
        successor = decode(value).handed_to if value else ""
        if successor and slot_of(dsn, successor) is not None:
            raise HandedOverError(f"the outbox was handed over to slot {successor}: stop who publishes from it, drop it, then rebuild")


def _streaming(slot: str) -> str:
    return f"a relay streams from slot {slot}: stop every relay of this database first"
