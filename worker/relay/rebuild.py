"""`sre-domain relay rebuild`: publish what is in the outbox and not in the topics, and make a slot that goes on from there without a hole.

A slot is made first, temporary, with the snapshot that belongs to its start: what the snapshot sees is published here, what it doesn't see
the slot will stream. Killed at any point, the next run finds in the topics what this one has published; until the end there is no slot that
a relay could go on from.
"""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import IsolationLevel, errors

from worker.errors import WorkerError
from worker.kafka_config import librdkafka_config
from worker.postgres.named_sql import statements
from worker.relay import replication
from worker.relay.pgoutput import Column, Relation
from worker.relay.published import once_led, partitions_of_topics, published, ranges, read
from worker.relay.publisher import Publisher
from worker.relay.record import record_maker
from worker.relay.slot import keep_slot
from worker.relay.status import RelayStatus
from worker.relay.waiting import Waiting
from worker.relay.watermark import Watermark, WatermarkError, encode, key_of, published_up_to, read_committed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from psycopg import Connection

    from worker.relay.replication import Identity
    from worker.settings import Settings

    Tell = Callable[[str, int, int], None]

ROWS_A_TRANSACTION: Final = 5_000
_DAY_MS: Final = 86_400_000
_STALL_SECONDS: Final = 60.0  # above the longest transaction timeout that makes sense: an open one is ended by then


class StreamingError(WorkerError):
    """A relay streams from the slot; nothing was changed."""


class ForeignSlotError(WorkerError):
    """The name is that of a slot which no relay of this database uses; nothing was changed."""


class TopicShapeError(WorkerError):
    """A topic that the outbox has rows for is missing, or has too few partitions; nothing was changed."""


class OvertakenError(WorkerError):
    """Facts are missing whose successors are in the topic, where they would come in the wrong order; nothing was changed."""


class ForgottenError(WorkerError):
    """The topics have facts that this database has no more, or another one under the same id; nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """`missing` counts rows by topic; `reasons` say why the slot or the watermark must be made anew where nothing is missing."""

    outbox_rows: int
    records: int
    missing: Mapping[str, int]
    reasons: tuple[str, ...]

    @property
    def nothing_to_do(self) -> bool:
        return not self.missing and not self.reasons


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A transaction that sees what was committed before `lsn`, and a temporary slot that streams what is committed after."""

    connection: Connection[Any]
    replication: Connection[Any]
    temporary_slot: str
    lsn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the relay is by its slot and its watermark."""

    slot: Mapping[str, Any] | None
    identity: Identity
    watermarks: Mapping[bytes, bytes]


def rebuild(settings: Settings, tell: Tell, *, dry_run: bool) -> Findings:
    """What was found, and mended unless it is a dry run; `tell` hears what is done, how far it is and of how much.

    Raises the errors above, psycopg.Error and KafkaException.
    """
    dsn, slot, timeout_seconds = settings.relay_dsn, settings.relay_slot, settings.relay_transaction_timeout_seconds
    kafka = librdkafka_config(settings) | {"log_level": 0}
    _refuse_while_streaming(_slot(dsn, slot), slot)
    if dry_run:
        with snapshot_of_outbox(dsn) as snapshot:
            return survey(snapshot, _place(dsn, slot, kafka), settings, tell)
    with closing(Waiting(Event(), RelayStatus())) as waiting, closing(Publisher(kafka, slot, timeout_seconds, waiting)) as publisher:
        # From here on no relay can publish anything, unless it begins anew and so shuts us out.
        publisher.fence()
        with snapshot_of_outbox(dsn) as snapshot:
            place = _place(dsn, slot, kafka)
            findings = survey(snapshot, place, settings, tell)
            if not findings.nothing_to_do:
                drop_slot(dsn, slot)
                publish_missing(snapshot, place, publisher, slot, findings, tell)
                keep_slot(snapshot.replication, snapshot.temporary_slot, slot)
    return findings


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


def survey(snapshot: Snapshot, place: Place, settings: Settings, tell: Tell) -> Findings:
    """Compare the outbox with the topics. Raises TopicShapeError, OvertakenError and ForgottenError."""
    sql, execute = statements("rebuild"), snapshot.connection.execute
    kafka = librdkafka_config(settings) | {"log_level": 0}
    topics = partitions_of_topics(kafka, _STALL_SECONDS)
    rows, since_ms = 0, None
    for topic, last_partition, count, first_ms in execute(sql["outbox_topics"]).fetchall():
        if last_partition >= topics.get(topic, 0):
            needed = f"partition {last_partition} of {topic}"
            raise TopicShapeError(f"the outbox has rows for {needed}, which does not exist: run sre-domain topics, then rebuild again")
        rows, since_ms = rows + count, min(first_ms, since_ms or first_ms)
    # A record is written after its row, and a day is more than any two clocks differ. An empty outbox says nothing: then all is read.
    wanted = ranges(kafka, topics, _STALL_SECONDS, None if since_ms is None else max(0, since_ms - _DAY_MS))
    execute(sql["make_topic_record"])
    total = sum(part.end - part.start for part in wanted)
    records = 0
    with snapshot.connection.cursor().copy(sql["fill_topic_record"]) as copy:
        copy.set_types(["uuid", "bytea", "text", "text", "text", "int8"])
        for messages, done in read(kafka, wanted, _STALL_SECONDS):
            for message in messages:
                record = published(message)
                if record is not None:
                    copy.write_row(record)
                    records += 1
            tell("reading the topics", done, total)
    tell("comparing with the outbox", 0, rows)
    execute(sql["analyze_topic_record"])
    missing: dict[str, int] = dict(execute(sql["missing"]).fetchall())
    _refuse_forgotten(execute(sql["forgotten"]).fetchall())
    _refuse_overtaken(execute(sql["overtaken"]).fetchall())
    tell("comparing with the outbox", rows, rows)
    return Findings(
        outbox_rows=rows, records=records, missing=missing, reasons=tuple(_reasons(place, settings.relay_slot, has_records=records > 0))
    )


def publish_missing(snapshot: Snapshot, place: Place, publisher: Publisher, slot: str, findings: Findings, tell: Tell) -> None:
    """The missing rows in transactions of Kafka, with the new watermark in the last."""
    sql = statements("rebuild")
    columns = snapshot.connection.execute(sql["outbox_shape"]).description or ()
    relation = Relation(0, "public", "outbox", tuple(Column(column.name, column.type_code) for column in columns))
    make_record = record_maker(relation)
    key, total = key_of(place.identity, slot), sum(findings.missing.values())
    so_far = place.watermarks.get(key, encode(Watermark(place.identity.timeline, 0)))
    with snapshot.connection.cursor().copy(sql["missing_rows"]) as copy:
        for number, values in enumerate(copy.rows(), start=1):
            publisher.publish(make_record(values))
            if number % ROWS_A_TRANSACTION == 0 and number < total:
                publisher.commit(key, so_far)
                tell("publishing what is missing", number, total)
    # Of a slot that never published anything there is no watermark but 0.
    lsn = snapshot.lsn if total or findings.records else 0
    publisher.commit(key, encode(Watermark(place.identity.timeline, lsn)))
    tell("publishing what is missing", total, total)


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
    identity, found = replication.identity_of(dsn), _slot(dsn, slot)
    key = key_of(identity, slot)
    return Place(slot=found, identity=identity, watermarks=once_led(lambda: read_committed(kafka, key, _STALL_SECONDS)))


def _slot(dsn: str, slot: str) -> Mapping[str, Any] | None:
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


def _refuse_while_streaming(found: Mapping[str, Any] | None, slot: str) -> None:
    if found is not None and found["active"]:
        raise StreamingError(_streaming(slot))


def _streaming(slot: str) -> str:
    return f"a relay streams from slot {slot}: stop every relay of this database, then rebuild"


def _reasons(place: Place, slot: str, *, has_records: bool) -> Iterator[str]:
    if place.slot is None:
        yield f"there is no slot {slot}"
    elif place.slot["wal_status"] == "lost" or place.slot.get("invalidation_reason"):
        yield f"slot {slot} is lost"
    try:
        published_up_to(place.watermarks, place.identity, slot)
    except WatermarkError as error:
        yield str(error).split(":", maxsplit=1)[0]
    else:
        if has_records and key_of(place.identity, slot) not in place.watermarks:
            yield "there are records in the topics and no watermark"


def _refuse_overtaken(rows: list[tuple[str, str, str, int, int, int]]) -> None:
    if rows:
        named = ", ".join(f"{kind} {tenant}/{name} (lacks {lacks}, has {has})" for kind, tenant, name, lacks, has, _count in rows)
        raise OvertakenError(
            f"facts are missing before others of the same aggregate, and could only come after them: {rows[0][-1]} aggregates, "
            f"{named}; delete their topics, then run sre-domain topics and sre-domain relay rebuild, and have readers begin anew"
        )


def _refuse_forgotten(rows: list[tuple[str, str, str, int, int]]) -> None:
    if rows:
        named = ", ".join(f"{kind} {tenant}/{name} from version {version}" for kind, tenant, name, version, _count in rows)
        raise ForgottenError(
            f"readers have seen facts that this database does not have: {rows[0][-1]} aggregates, {named}; "
            "stop the workers, and go back to a server or a backup that has them, or see docs/runbook.md on how to have readers begin anew"
        )
