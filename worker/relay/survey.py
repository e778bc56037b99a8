"""What a rebuild has to do: the outbox compared with the topics, and the slot and the watermark with what a relay could go on from."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from worker.errors import WorkerError
from worker.kafka_config import librdkafka_config
from worker.postgres.named_sql import statements
from worker.relay.lost_topics import made_anew
from worker.relay.published import partitions_of_topics, published, ranges, read
from worker.relay.watermark import WatermarkError, decode, key_of, published_up_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from psycopg import Connection

    from worker.relay.replication import Identity
    from worker.settings import Settings

    Tell = Callable[[str, int, int], None]

STALL_SECONDS: Final = 60.0  # above the longest transaction timeout that makes sense: an open one is ended by then
_DAY_MS: Final = 86_400_000


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
class Place:
    """Where the relay is by its slot and its watermark; `topics` has the ids that the topics have now."""

    slot: Mapping[str, Any] | None
    identity: Identity
    watermarks: Mapping[bytes, bytes]
    topics: Mapping[str, str]


def survey(connection: Connection[Any], place: Place, settings: Settings, tell: Tell) -> Findings:
    """Compare the outbox, as this transaction sees it, with the topics. Raises TopicShapeError, OvertakenError and ForgottenError."""
    sql, execute = statements("rebuild"), connection.execute
    kafka = librdkafka_config(settings) | {"log_level": 0}
    topics = partitions_of_topics(kafka, STALL_SECONDS)
    rows, since_ms = 0, None
    for topic, last_partition, count, first_ms in execute(sql["outbox_topics"]).fetchall():
        if last_partition >= topics.get(topic, 0):
            needed = f"partition {last_partition} of {topic}"
            raise TopicShapeError(f"the outbox has rows for {needed}, which does not exist: run sre-domain topics, then rebuild again")
        rows, since_ms = rows + count, min(first_ms, since_ms or first_ms)
    # A record is written after its row, and a day is more than any two clocks differ. An empty outbox says nothing: then all is read.
    wanted = ranges(kafka, topics, STALL_SECONDS, None if since_ms is None else max(0, since_ms - _DAY_MS))
    execute(sql["make_topic_record"])
    total = sum(part.end - part.start for part in wanted)
    records = 0
    with connection.cursor().copy(sql["fill_topic_record"]) as copy:
        copy.set_types(["uuid", "bytea", "text", "text", "text", "int8"])
        for messages, done in read(kafka, wanted, STALL_SECONDS):
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


def _reasons(place: Place, slot: str, *, has_records: bool) -> Iterator[str]:
    if place.slot is None:
        yield f"there is no slot {slot}"
    elif place.slot["wal_status"] == "lost" or place.slot.get("invalidation_reason"):
        yield f"slot {slot} is lost"
    watermark = place.watermarks.get(key_of(place.identity, slot))
    try:
        published_up_to(place.watermarks, place.identity, slot)
    except WatermarkError as error:
        yield str(error).split(":", maxsplit=1)[0]
    else:
        if watermark is None and has_records:
            yield "there are records in the topics and no watermark"
    with suppress(WatermarkError):  # which is among the reasons by now
        if watermark is not None:
            yield from (f"{topic} was made anew" for topic in made_anew(decode(watermark), place.topics))


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
