"""This host's clock, against which intents are held, beside those of PostgreSQL and of the brokers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from worker.doctor.bus import TIMEOUT_SECONDS
from worker.doctor.database import asked, session
from worker.doctor.finding import fail, not_checked, ok, warn
from worker.domain.aggregate import AGGREGATES
from worker.domain.outcome import CLOCK_TOLERANCE
from worker.kafka_metadata import connected_admin
from worker.topics import intents_topic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from typing import Any

    from worker.doctor.finding import Finding
    from worker.settings import KafkaSettings

    Now = Callable[[], datetime]

_NEWEST: Final = OffsetSpec.max_timestamp()  # type: ignore[no-untyped-call]
_NOTICEABLE: Final = timedelta(seconds=1)
_DANGEROUS: Final = CLOCK_TOLERANCE / 5  # by so much less than 5 minutes may an intent be ahead

FAR_OFF = fail(
    "this host's clock is {seconds:.1f} s {which} {other}",
    "mend the time synchronisation: intents are held against this clock, and 300 s off is refused",
)
OFF = warn("this host's clock is {seconds:.1f} s {which} {other}", "see whether both hosts synchronise their clocks")
WITH_POSTGRES = ok("within {seconds:.1f} s of PostgreSQL's")
NO_RECORDS = not_checked("the topics of intents hold no record whose time could be compared")
WITH_KAFKA = ok("the newest intent is not from the future")


def check_postgres_clock(dsn: str, now: Now) -> Iterator[Finding]:
    """Their difference is known but for the time that asking took; what that leaves open is not held against it."""
    with session(dsn) as connection:
        asked(connection, "clock")  # on a connection that is warm
        before = now()
        (row,) = asked(connection, "clock")
        after = now()
    there: datetime = row["now"]
    ahead, behind = before - there, there - after
    off = max(ahead, behind, timedelta(0))
    if off < _NOTICEABLE:
        yield WITH_POSTGRES.of(seconds=max(off, (after - before) / 2).total_seconds() + 0.05)
        return
    line = FAR_OFF if off >= _DANGEROUS else OFF
    yield line.of(seconds=off.total_seconds(), which="ahead of" if ahead > behind else "behind", other="PostgreSQL's")


def check_kafka_clock(settings: KafkaSettings, now: Now) -> Iterator[Finding]:
    """One-sided, since nothing is written: a record can be old, and can't be from the future."""
    admin, topics = connected_admin(settings, TIMEOUT_SECONDS)
    names = [name for name in map(intents_topic, AGGREGATES) if name in topics]
    wanted = {TopicPartition(name, number): _NEWEST for name in names for number in topics[name].partitions}
    found = admin.list_offsets(wanted, request_timeout=TIMEOUT_SECONDS) if wanted else {}
    times = [time for time in map(_time_of, found.values()) if time > 0]
    if not times:
        yield NO_RECORDS.of()
        return
    behind = datetime.fromtimestamp(max(times) / 1000, UTC) - now()
    if behind < _NOTICEABLE:
        yield WITH_KAFKA.of()
        return
    line = FAR_OFF if behind >= _DANGEROUS else OFF
    yield line.of(seconds=behind.total_seconds(), which="behind", other="that of the newest intent")


def _time_of(newest: Future[Any]) -> int:
    """In ms, 0 where there is none, or where a leader that is just moving does not tell."""
    try:
        answer = newest.result()
    except KafkaException:
        return 0
    return int(answer.timestamp) if answer.offset >= 0 else 0
