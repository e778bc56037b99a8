"""The replication protocol of PostgreSQL, spoken through psycopg's wrapper of libpq: one logical slot, streamed with pgoutput.

Source: PostgreSQL manual, "Streaming Replication Protocol".
"""

from __future__ import annotations

import select
import time
from contextlib import suppress
from struct import Struct
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import psycopg
from psycopg import ClientCursor
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import ExecStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from psycopg import Connection

PUBLICATION: Final = "sre_outbox"
CLOSE_SECONDS: Final = 0.5
STATUS_SECONDS: Final = 1.0
_WAL_SENDER_TIMEOUT_SECONDS: Final = 10  # how long the slot of a relay that hangs, or whose host vanished, is kept for it

_XLOG_DATA: Final = ord("w")
_XLOG_DATA_HEADER: Final = 25
_KEEPALIVE: Final = Struct("!cQqB")
_STATUS: Final = Struct("!cQQQqB")
_POSTGRES_EPOCH_SECONDS: Final = 946_684_800  # 2000-01-01 UTC

# A server that vanished is noticed within half a minute; the DSN may say otherwise.
_CONNECTION_DEFAULTS: Final[dict[str, Any]] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "target_session_attrs": "primary",  # a standby has no slot for us until it is promoted, which is waited for
    "application_name": "sre-domain relay",
    "options": f"-c wal_sender_timeout={_WAL_SENDER_TIMEOUT_SECONDS}s",
}


class Keepalive(NamedTuple):
    """Everything that commits before `wal_end` has been sent already."""

    wal_end: int


class Identity(NamedTuple):
    """Which history of which database this is, and how far its WAL is flushed; `left_at` has where it left each timeline it comes from."""

    system: str
    timeline: int
    flushed_lsn: int
    database: str
    left_at: Mapping[int, int] = MappingProxyType({})


class ReplicationStream:
    """A slot that is ours while this lives. Every method but `wait` returns at once; all raise psycopg.Error when the server is gone."""

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._pgconn.nonblocking = 1
        self._readable = select.poll()
        self._readable.register(self._pgconn.socket, select.POLLIN)
        self._confirmed_lsn = 0
        self._copy_has_ended = False
        self._status_due = 0.0

    @property
    def backend_pid(self) -> int:
        """Of the WAL sender: what pg_replication_slots has as active_pid while the slot is ours."""
        return self._pgconn.backend_pid

    def pending(self) -> Iterator[bytes | Keepalive]:
        """What has arrived by now, in order: pgoutput messages and keepalives. Ends where nothing more has."""
        get_copy_data = self._pgconn.get_copy_data
        just_read = False
        while True:
            size, data = get_copy_data(1)
            if size > 0:
                just_read = False
                yield bytes(data[_XLOG_DATA_HEADER:]) if data[0] == _XLOG_DATA else self._keepalive(data)
            elif size < 0:
                raise self._end_of_stream()
            elif just_read:
                return
            else:
                self._pgconn.consume_input()
                self.keep_informed()
                just_read = True

    def wait(self, seconds: float) -> None:
        """Until something can be read, at most so long."""
        self._readable.poll(seconds * 1000)

    def confirm(self, lsn: int) -> None:
        """Tell the server that all that commits before `lsn` is safe elsewhere; it won't come again and its WAL may go."""
        self._confirmed_lsn = max(self._confirmed_lsn, lsn)
        self._send_status()

    def keep_informed(self) -> None:
        """Repeat the status when it is due, so that the server neither gives this connection up nor keeps WAL."""
        if time.monotonic() >= self._status_due:
            self._send_status()

    def close(self) -> None:
        """Give the slot back; whoever takes it next need not wait for the server to notice that we are gone."""
        with suppress(psycopg.Error):
            self._pgconn.put_copy_end()
            self._pgconn.flush()
            deadline = time.monotonic() + CLOSE_SECONDS
            while not self._has_ended() and (left := deadline - time.monotonic()) > 0:
                self.wait(left)
                self._pgconn.consume_input()
        self._connection.close()

    def _has_ended(self) -> bool:
        """Whether the server has completed START_REPLICATION, by when it has let go of the slot."""
        while not self._copy_has_ended:
            size, _data = self._pgconn.get_copy_data(1)
            if size == 0:
                return False
            self._copy_has_ended = size < 0
        while not self._pgconn.is_busy():
            if self._pgconn.get_result() is None:
                return True
        return False

    def _keepalive(self, data: memoryview) -> Keepalive:
        _kind, wal_end, _micros, reply_requested = _KEEPALIVE.unpack(data)
        if reply_requested:
            self._send_status()
        return Keepalive(wal_end)

    def _send_status(self) -> None:
        lsn = self._confirmed_lsn  # 0 moves nothing
        micros = int((time.time() - _POSTGRES_EPOCH_SECONDS) * 1_000_000)
        self._pgconn.put_copy_data(_STATUS.pack(b"r", lsn, lsn, lsn, micros, 0))
        self._pgconn.flush()
        self._status_due = time.monotonic() + STATUS_SECONDS

    def _end_of_stream(self) -> psycopg.Error:
        result = self._pgconn.get_result()
        if result is not None and result.status == ExecStatus.FATAL_ERROR:
            return psycopg.errors.error_from_result(result)
        return psycopg.OperationalError("the server ended the stream")


def connect(dsn: str) -> Connection[Any]:
    """A connection that takes replication commands and simple queries. Raises psycopg.OperationalError."""
    options = _CONNECTION_DEFAULTS | conninfo_to_dict(dsn) | {"replication": "database", "client_encoding": "UTF8"}
    # ClientCursor: a replication connection knows no query parameters.
    return psycopg.connect(make_conninfo(**options), autocommit=True, cursor_factory=ClientCursor)


def identity_of(dsn: str) -> Identity:
    with connect(dsn) as connection:
        row = connection.execute("IDENTIFY_SYSTEM").fetchone()
        if row is None:
            raise psycopg.InternalError("IDENTIFY_SYSTEM gave no row")
        system, timeline, flushed_lsn, database = row
        left_at = _left_at(connection, int(timeline))
    return Identity(str(system), int(timeline), parse_lsn(flushed_lsn), str(database), left_at)


def _left_at(connection: Connection[Any], timeline: int) -> Mapping[int, int]:
    """By timeline, the LSN up to which its WAL is a part of this one's; empty where the server has no history file."""
    try:
        row = connection.execute(f"TIMELINE_HISTORY {timeline}".encode()).fetchone()
    except psycopg.errors.UndefinedFile:  # the first timeline has none
        return {}
    lines = (line.split() for line in str(row[1] if row else "").splitlines())
    return {int(line[0]): parse_lsn(line[1]) for line in lines if line and line[0].isdigit()}


def start(connection: Connection[Any], slot: str) -> ReplicationStream:
    """Stream from where the slot was confirmed last. The slot is taken: another START_REPLICATION of it fails.

    Raises psycopg.errors.UndefinedObject where there is no such slot, ObjectInUse where another connection has it,
    ObjectNotInPrerequisiteState where it is lost or of another database or kind.
    """
    command = f"START_REPLICATION SLOT {slot} LOGICAL 0/0 (proto_version '1', publication_names '{PUBLICATION}', binary 'true')"
    result = connection.pgconn.exec_(command.encode())
    if result.status != ExecStatus.COPY_BOTH:
        raise psycopg.errors.error_from_result(result)
    return ReplicationStream(connection)


def parse_lsn(text: str) -> int:
    """`16/B374D848` as its 64 bits. Raises ValueError."""
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def format_lsn(lsn: int) -> str:
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
