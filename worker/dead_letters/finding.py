"""Rejections off their topic, committed ones only, from a time on: what was selected, and nothing of the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from confluent_kafka import OFFSET_BEGINNING, KafkaException, TopicPartition

from worker.bus import BusError
from worker.committed import committed_consumer, poll_together
from worker.dead_letters.letters import broker_time, header_texts, read_letter
from worker.topics import REJECTED_TOPIC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from confluent_kafka import Consumer, Message

    from worker.codec import Codec
    from worker.dead_letters.letters import Letter
    from worker.settings import KafkaSettings

_LOOKUP_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which rejections: those that every part given agrees to. `since` is the earliest time in the topic, `until` the first one too late.

    `name` is an intent's id, a rejection's or the position of a refused record; `intent` an intent's name without namespace and suffix.
    """

    codes: frozenset[str] = frozenset()
    tenant_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    name: str | None = None
    intent: str | None = None

    def may_hold(self, message: Message) -> bool:
        """What the rejection's own time and headers say, which costs no decoding."""
        time = broker_time(message)
        if (self.since is not None and time < self.since) or (self.until is not None and time >= self.until):
            return False
        return self.tenant_id is None or header_texts(message).get("ce_tenantid") == self.tenant_id

    def holds(self, letter: Letter) -> bool:
        """What only the rejection itself says."""
        return (
            (not self.codes or letter.rejection.code in self.codes)
            and (self.name is None or letter.goes_by(self.name))
            and (self.intent is None or letter.type.removesuffix("Requested") == self.intent)
        )


def find(settings: KafkaSettings, selection: Selection, codec: Codec, complain: Callable[[str], None]) -> Iterator[tuple[Letter, Message]]:
    """The selected rejections up to the end of the topic as it is now; those of one key in their order.

    What is no rejection, or one of a later version, is complained of and passed over. Raises BusError.
    """
    consumer, partitions = committed_consumer(settings, [REJECTED_TOPIC], where_lost="earliest")
    try:
        consumer.assign(_starts(consumer, partitions, selection.since))
        unread = set(partitions)
        while unread:
            messages, ended = poll_together(consumer)
            unread -= ended
            for message in filter(selection.may_hold, messages):
                try:
                    letter = read_letter(message, codec)
                except ValueError as error:
                    complain(f"{message.topic()}/{message.partition()}/{message.offset()} can't be read: {error}")
                    continue
                if selection.holds(letter):
                    yield letter, message
    finally:
        consumer.close()


def _starts(consumer: Consumer, partitions: list[tuple[str, int]], since: datetime | None) -> list[TopicPartition]:
    if since is None:
        return [TopicPartition(*place, OFFSET_BEGINNING) for place in partitions]
    milliseconds = max(0, int(since.timestamp() * 1000))
    try:
        found = consumer.offsets_for_times([TopicPartition(*place, milliseconds) for place in partitions], timeout=_LOOKUP_SECONDS)
    except KafkaException as error:
        raise BusError(f"Kafka does not answer: {error.args[0].str()}") from None
    failed = next((start.error for start in found if start.error is not None), None)
    if failed is not None:
        raise BusError(failed.str())
    return found
