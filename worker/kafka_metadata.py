"""Asking which topics there are, without waiting for a Kafka that has refused us."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError, KafkaException

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from confluent_kafka import Consumer, Producer
    from confluent_kafka.admin import AdminClient, TopicMetadata

_TURN_SECONDS: Final = 1.0
_REFUSALS: Final = (KafkaError._AUTHENTICATION, KafkaError._SSL)  # noqa: SLF001 - their public names


def list_topics(
    client: AdminClient | Consumer | Producer, heard: Sequence[KafkaError], timeout_seconds: float
) -> Mapping[str, TopicMetadata]:
    """The topics that we may see, by name; `heard` is what the client's error_cb appends to.

    Raises KafkaException: why we can't log in as soon as that is known, else what ended the last attempt.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            return client.list_topics(timeout=_TURN_SECONDS).topics
        except KafkaException as error:
            client.poll(0)
            refusal = next((fault for fault in reversed(heard) if fault.code() in _REFUSALS), None)
            if refusal is not None:
                raise KafkaException(refusal) from None
            if time.monotonic() >= deadline:
                raise KafkaException(error.args[0]) from None
