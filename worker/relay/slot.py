"""The replication slot: made once, then taken by one relay at a time; the others wait for it as hot standbys."""

from __future__ import annotations

import logging
from contextlib import suppress
from threading import Timer
from typing import TYPE_CHECKING, Any, Final

from psycopg import Error, IsolationLevel, errors

from worker.errors import WorkerError
from worker.postgres.named_sql import statements
from worker.postgres.schema_version import check_schema
from worker.relay import replication
from worker.relay.watermark import REBUILD

if TYPE_CHECKING:
    from psycopg import Connection

    from worker.relay.replication import ReplicationStream
    from worker.relay.waiting import Waiting

logger = logging.getLogger(__name__)

STANDBY_SECONDS: Final = 0.2
_FAILOVER_SINCE: Final = 170_000
_IN_USE_SECONDS: Final = 1.0


class PublicationMissingError(WorkerError):
    """The database does not publish an outbox: it was not migrated."""


class OutboxNotEmptyError(WorkerError):
    """There is no slot, and the outbox has rows that a new slot would never stream; an operator decides how to rebuild."""


class SlotUnusableError(WorkerError):
    """The slot is lost, or not one of this database: facts may be missing from Kafka; an operator decides how to rebuild."""


def take_slot(dsn: str, slot: str, waiting: Waiting) -> ReplicationStream:
    """Stream from the slot as soon as nobody else does; it is made first where there is none.

    Raises the errors above, SchemaError, StoppedError, and psycopg.Error where PostgreSQL is away.
    """
    connection = waiting.for_call(lambda: replication.connect(dsn))
    try:
        waiting.for_call(lambda: _check_publication(connection))
        waiting.for_call(lambda: check_schema(connection))
        stream = waiting.for_call(lambda: _start_or_make(connection, dsn, slot))
        if stream is None:
            logger.info("another relay streams from slot %s: standing by", slot)
            waiting.status.enter("standing by")
        while stream is None:
            waiting.for_seconds(STANDBY_SECONDS)
            waiting.turn()
            stream = waiting.for_call(lambda: _start_or_make(connection, dsn, slot))
    except BaseException:
        waiting.for_call(connection.close)  # behind a call that was left behind, which still uses the connection
        raise
    return stream


def holds_slot(dsn: str, slot: str, stream: ReplicationStream) -> bool:
    """Whether PostgreSQL still takes the stream for the one of this slot. Raises psycopg.Error."""
    with replication.connect(dsn) as connection:
        asked = {"slot": slot, "backend_pid": stream.backend_pid}
        return connection.execute(statements("relay")["slot_is_ours"], asked).fetchone() == (True,)


def ensure_slot(dsn: str, slot: str) -> bool:
    """Make the slot where there is none, and say whether it was made: before the worker's first commit, so that it misses no fact.

    Raises the errors above, and SlotUnusableError where PostgreSQL refuses.
    """
    try:
        with replication.connect(dsn) as connection:
            if connection.execute(statements("relay")["slot_exists"], {"slot": slot}).fetchone() == (True,):
                let_fail_over(connection, slot)
                return False
        make_slot(dsn, slot)
    except Error as error:
        raise SlotUnusableError(f"slot {slot} can't be made: {' '.join(str(error).split())}") from error
    return True


def make_slot(dsn: str, slot: str) -> None:
    """Make the slot, unless somebody else does. Raises OutboxNotEmptyError where its first facts would be missing."""
    sql = statements("relay")
    with replication.connect(dsn) as connection:
        connection.execute(sql["see_every_row"])
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        # Temporary until the outbox was looked at: a relay killed before that leaves nothing that seems to be in order.
        temporary_slot = f"sre_relay_{connection.info.backend_pid}"
        with connection.transaction():
            connection.execute(f"CREATE_REPLICATION_SLOT {temporary_slot} TEMPORARY LOGICAL pgoutput (SNAPSHOT 'use')".encode())
            outbox_is_empty = connection.execute(sql["outbox_is_empty"]).fetchone() == (True,)
        if not outbox_is_empty:
            raise OutboxNotEmptyError(f"slot {slot} does not exist and the outbox has rows it would never stream: run {REBUILD}")
        with suppress(errors.DuplicateObject):
            keep_slot(connection, temporary_slot, slot)


def keep_slot(connection: Connection[Any], temporary_slot: str, slot: str) -> None:
    """Make the slot, where the temporary one of this connection begins. Raises DuplicateObject where there is one."""
    connection.execute(statements("relay")["keep_slot"], {"temporary_slot": temporary_slot, "slot": slot})
    let_fail_over(connection, slot)
    logger.info("made replication slot %s", slot)


def let_fail_over(connection: Connection[Any], slot: str) -> None:
    """Let standbys keep a copy of the slot, where PostgreSQL knows how to; not while a relay streams from it, and not one that is lost."""
    if connection.info.server_version < _FAILOVER_SINCE:
        return
    if connection.execute(statements("relay")["slot_may_change"], {"slot": slot}).fetchone() != (True,):
        return
    # A relay may have taken the slot meanwhile, and PostgreSQL waits for as long as it streams.
    giving_up = Timer(_IN_USE_SECONDS, connection.cancel_safe)
    giving_up.start()
    try:
        with suppress(errors.QueryCanceled, errors.ObjectNotInPrerequisiteState, errors.FeatureNotSupported):
            connection.execute(f"ALTER_REPLICATION_SLOT {slot} (FAILOVER true)".encode())
    finally:
        giving_up.cancel()


def _start_or_make(connection: Connection[Any], dsn: str, slot: str) -> ReplicationStream | None:
    """None while another connection streams from the slot."""
    try:
        try:
            return replication.start(connection, slot)
        except errors.UndefinedObject:
            make_slot(dsn, slot)
            return replication.start(connection, slot)
    except errors.ObjectInUse:
        return None
    except errors.ObjectNotInPrerequisiteState as error:
        raise SlotUnusableError(f"slot {slot} can't be streamed from: {error.diag.message_primary}; run {REBUILD}") from error


def _check_publication(connection: Connection[Any]) -> None:
    found = connection.execute(statements("relay")["publication_exists"], {"publication": replication.PUBLICATION}).fetchone()
    if found != (True,):
        raise PublicationMissingError(f"the database has no publication {replication.PUBLICATION}: run sre-domain migrate")
