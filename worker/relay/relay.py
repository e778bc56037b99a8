"""The outbox's way from PostgreSQL's WAL to Kafka: exactly once for a read_committed reader, whatever is killed and whenever."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, NamedTuple

import psycopg
from confluent_kafka import KafkaError, KafkaException

from worker.errors import WorkerError
from worker.kafka_config import librdkafka_config
from worker.relay.hanging import end_hanging
from worker.relay.lost_topics import TopicsLostError, refuse_lost_topics, topic_ids
from worker.relay.pgoutput import Begin, Commit, Insert, Relation, decode
from worker.relay.publisher import Publisher
from worker.relay.rebuild import settle
from worker.relay.record import record_maker
from worker.relay.replication import Keepalive, format_lsn, identity_of
from worker.relay.slot import holds_slot, take_slot
from worker.relay.status import RelayStatus
from worker.relay.waiting import StoppedError, Waiting
from worker.relay.watermark import Watermark, WatermarkError, encode, is_in_doubt, key_of, published_up_to, read_committed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from threading import Event

    from worker.relay.record import Record
    from worker.relay.replication import ReplicationStream
    from worker.settings import Settings

logger = logging.getLogger(__name__)

MAX_GROUP_ROWS: Final = 10_000  # a group ends at the first commit after so many
MAX_TRACED_RECORDS: Final = 1_000  # of a group: their headers are held until it is committed
MESSAGES_A_TURN: Final = 1_000
IDLE_SECONDS: Final = 0.25
PAUSES_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # after the first failure, the second, …, and every later one

_REFUSED: Final = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
)
_FENCED: Final = (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH)  # noqa: SLF001


class RelayRefusedError(WorkerError):
    """PostgreSQL or Kafka will have none of this relay: settings or rights are wrong, or somebody without the slot uses its id in Kafka."""


class PlaceLostError(Exception):
    """The slot, or the transaction in Kafka, is no longer this life's: whatever it had open came to nothing, and a new life may begin."""


class UsurpedError(PlaceLostError):
    """Somebody without the slot fenced this life: once, it may have been a relay that was paused, or a rebuild that came too late."""


class Group(NamedTuple):
    """Whole PostgreSQL transactions that share a Kafka transaction, up to the commit at `commit_lsn`.

    Without rows: a stretch of WAL with nothing in it for us; where not even a commit came, `commit_lsn` is 0. `transactions` has when
    each one with rows committed (microseconds since 2000-01-01 UTC) and its rows; `traced` some records, unvalued, with that time.
    """

    rows: int
    commit_lsn: int
    end_lsn: int
    transactions: Sequence[tuple[int, int]] = ()
    traced: Sequence[tuple[int, Record]] = ()


@dataclass(frozen=True, slots=True)
class Observer:
    """Hears of every group with rows once it is committed in Kafka; `is_traced` picks the records that the group keeps for it, unvalued.

    Neither may raise.
    """

    tell: Callable[[Group], None]
    is_traced: Callable[[Record], bool] | None = None


@dataclass(slots=True)
class Filling:
    """A group on its way; `group` covers the transactions that are in it whole."""

    rows: int = 0
    group: Group | None = None
    in_transaction: bool = False
    published_before: bool = False
    committed_us: int = 0
    rows_before: int = 0
    transactions: list[tuple[int, int]] = field(default_factory=list)
    traced: list[tuple[int, Record]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Link:
    """The slot and the producer of one life of the relay.

    `published_lsn` is where the facts in Kafka ended when it began, `topics` has the ids that the topics had then.
    """

    waiting: Waiting
    stream: ReplicationStream
    publisher: Publisher
    watermark_key: bytes
    timeline: int
    published_lsn: int
    topics: Mapping[str, str]
    record_makers: dict[int, Callable[[Sequence[bytes | None]], Record]] = field(default_factory=dict)
    observer: Observer | None = None


def run(settings: Settings, stop: Event, status: RelayStatus | None = None, observer: Observer | None = None) -> None:
    """Relay until `stop` is set, waiting out the outages of PostgreSQL and Kafka. Raises WorkerError where going on is unsafe."""
    failures, told, usurped = 0, False, False
    status = status or RelayStatus()
    with closing(Waiting(stop, status)) as waiting:
        while not stop.is_set():
            try:
                for position in relay(settings, waiting, observer):
                    if not told:
                        logger.info("relaying from slot %s, by now at %s", settings.relay_slot, format_lsn(position))
                    failures, told = 0, True
            except StoppedError:
                return
            except (psycopg.Error, KafkaException, PlaceLostError) as error:
                if _is_final(error) or (usurped and isinstance(error, UsurpedError)):
                    raise RelayRefusedError(f"the relay of slot {settings.relay_slot} can't go on: {_one_line(error)}") from error
                status.enter("waiting", _one_line(error))
                if not failures:
                    logger.warning("the relay waits: %s", _one_line(error))
                waiting.for_seconds(PAUSES_SECONDS[min(failures, len(PAUSES_SECONDS) - 1)])
                failures, told, usurped = failures + 1, False, usurped or isinstance(error, UsurpedError)


def relay(settings: Settings, waiting: Waiting, observer: Observer | None = None) -> Iterator[int]:
    """One life of the relay, up to its first error or the stop; gives every position once it is confirmed.

    The order of the start is what keeps two relays apart: the slot admits one, init_transactions ends what the one before left open,
    and then the watermark tells how far the facts in Kafka reach. Raises psycopg.Error, KafkaException, PlaceLostError, StoppedError,
    WorkerError.
    """
    dsn, slot, timeout_seconds = settings.relay_dsn, settings.relay_slot, settings.relay_transaction_timeout_seconds
    kafka = librdkafka_config(settings) | {"log_level": 0}  # the relay tells of an outage, and once
    with (
        closing(take_slot(dsn, slot, waiting)) as stream,
        closing(Publisher(kafka, slot, timeout_seconds, waiting)) as publisher,
        waiting.doing(stream.keep_informed),
    ):
        publisher.fence()
        try:
            link = replace(begin(settings, waiting, stream, publisher), observer=observer)
            waiting.status.published_lsn = link.published_lsn
            waiting.status.enter("active")
            yield from relay_groups(link)
        except KafkaException as error:
            if not _is_fenced(error):
                raise
            if publisher.outlived_transaction():
                raise PlaceLostError(f"Kafka ended a transaction that was open for longer than {timeout_seconds:g} s") from error
            if not waiting.for_call(lambda: holds_slot(dsn, slot, stream)):
                raise PlaceLostError(f"PostgreSQL gave slot {slot} to another relay, which has fenced this one") from error
            raise UsurpedError(f"somebody without slot {slot} uses its name as transactional.id and has fenced this relay") from error
        except (WatermarkError, TopicsLostError) as error:
            # Nobody is kept from reading: what looks like a loss may be the work of a successor.
            if not waiting.for_call(lambda: holds_slot(dsn, slot, stream)):
                raise PlaceLostError(f"PostgreSQL gave slot {slot} to another relay while this one began") from error
            raise


def begin(settings: Settings, waiting: Waiting, stream: ReplicationStream, publisher: Publisher) -> Link:
    """Find out how far the facts in Kafka reach, and have it so that one LSN says it.

    Raises WatermarkError and TopicsLostError where facts may be missing, the errors of a survey, psycopg.Error, KafkaException and
    StoppedError.
    """
    dsn, slot, timeout_seconds = settings.relay_dsn, settings.relay_slot, settings.relay_transaction_timeout_seconds
    kafka = librdkafka_config(settings) | {"log_level": 0}
    identity = waiting.for_call(lambda: identity_of(dsn))
    key = key_of(identity, slot)
    end_hanging(kafka, publisher, waiting, key, identity.timeline)
    committed = waiting.for_call(lambda: read_committed(kafka, key, timeout_seconds))
    if is_in_doubt(committed, key):
        settle(settings, publisher, waiting)
        committed = waiting.for_call(lambda: read_committed(kafka, key, timeout_seconds))
    identity = waiting.for_call(lambda: identity_of(dsn))  # younger than the watermark
    published_lsn = published_up_to(committed, identity, slot)
    topics = waiting.for_call(lambda: topic_ids(kafka))
    waiting.for_call(lambda: refuse_lost_topics(kafka, dsn, slot, key, committed, topics))
    stream.confirm(published_lsn)
    return Link(waiting, stream, publisher, key, identity.timeline, published_lsn, topics)


def relay_groups(link: Link) -> Iterator[int]:
    """Confirm to PostgreSQL only what is committed in Kafka, and commit it there together with its watermark."""
    while not link.waiting.stop.is_set():
        link.waiting.status.turn()
        group = publish_pending(link)
        if group is None:
            link.stream.wait(IDLE_SECONDS)
            link.stream.keep_informed()
            link.publisher.check_connection()
            continue
        position = confirmable_lsn(group)
        if group.rows:
            link.publisher.commit(link.watermark_key, encode(Watermark(link.timeline, position, link.topics)))
        link.stream.confirm(position)
        if group.rows:
            link.waiting.status.published_lsn = position
            if link.observer is not None:
                link.observer.tell(group)
        yield position


def confirmable_lsn(group: Group) -> int:
    """Where the next life begins. Not the commit's own LSN, from which its transaction would come again."""
    return group.end_lsn


def publish_pending(link: Link) -> Group | None:
    """Queue all that has arrived in a Kafka transaction that is left open; None where nothing has.

    A row is queued as it comes, so that a big PostgreSQL transaction is not held here; its rest is waited for.
    """
    filling = Filling()
    while True:
        for count, received in enumerate(link.stream.pending(), 1):
            take(received, link, filling)
            if filling.rows >= MAX_GROUP_ROWS and not filling.in_transaction:
                return filling.group
            if count % MESSAGES_A_TURN == 0:
                link.waiting.turn()
        if not filling.in_transaction:
            return filling.group
        link.stream.wait(IDLE_SECONDS)
        link.waiting.turn()


def take(received: bytes | Keepalive, link: Link, filling: Filling) -> None:
    """Queue one row, or note how far the group goes by now."""
    if isinstance(received, Keepalive):
        if filling.rows == 0 and not filling.in_transaction:
            filling.group = Group(0, 0, received.wal_end)
        return
    match decode(received):
        case Insert(relation_oid, values):
            if not filling.published_before:
                record = link.record_makers[relation_oid](values)
                link.publisher.publish(record)
                filling.rows += 1
                if link.observer is not None and link.observer.is_traced is not None:
                    keep_traced(record, link.observer.is_traced, filling)
        case Begin(commit_lsn, committed_us):
            filling.in_transaction = True
            filling.committed_us, filling.rows_before = committed_us, filling.rows
            filling.published_before = commit_lsn < link.published_lsn  # which is the end of a later commit, or of this one
        case Commit(commit_lsn, end_lsn):
            filling.in_transaction = False
            if filling.rows > filling.rows_before:
                filling.transactions.append((filling.committed_us, filling.rows - filling.rows_before))
            filling.group = Group(filling.rows, commit_lsn, end_lsn, filling.transactions, filling.traced)
        case Relation() as relation:
            link.record_makers[relation.oid] = record_maker(relation)


def keep_traced(record: Record, is_traced: Callable[[Record], bool], filling: Filling) -> None:
    if len(filling.traced) < MAX_TRACED_RECORDS and is_traced(record):
        filling.traced.append((filling.committed_us, record._replace(value=b"")))


def _is_fenced(error: KafkaException) -> bool:
    fault: KafkaError = error.args[0]
    if fault.code() in _REFUSED:  # fatal to a producer; a right can be given back
        return False
    return fault.fatal() or fault.code() in _FENCED


def _is_final(error: psycopg.Error | KafkaException | PlaceLostError) -> bool:
    """Whether a new try of this process can't mend it."""
    if isinstance(error, KafkaException):
        return _is_fenced(error) or error.args[0].code() == KafkaError._INVALID_ARG  # noqa: SLF001
    return isinstance(error, psycopg.ProgrammingError)


def _one_line(error: psycopg.Error | KafkaException | PlaceLostError) -> str:
    if isinstance(error, KafkaException):
        return f"Kafka: {error.args[0].str()}"
    if isinstance(error, psycopg.Error):
        return f"PostgreSQL: {' '.join(str(error).split())}"
    return str(error)
