"""Asking which topics there are, without waiting for a Kafka that has refused us."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from worker.kafka_config import librdkafka_config

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from confluent_kafka import Consumer, Producer
    from confluent_kafka.admin import TopicMetadata

    from worker.settings import KafkaSettings

_TURN_SECONDS: Final = 1.0
_REFUSALS: Final = (KafkaError._AUTHENTICATION, KafkaError._SSL)  # noqa: SLF001 - their public names


def connected_admin(settings: KafkaSettings, timeout_seconds: float) -> tuple[AdminClient, Mapping[str, TopicMetadata]]:
    """A client that was let in, and the topics that it saw then; without it, what is asked for times out without a reason.

    Raises KafkaException, which says all that librdkafka would have logged.
    """
    heard: list[KafkaError] = []
    config: dict[str, Any] = {**librdkafka_config(settings), "error_cb": heard.append, "log_level": 0}
    admin = AdminClient(config)
    return admin, list_topics(admin, heard, timeout_seconds)


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
