"""The relay that goes on with its producer, and with what it knew, after a commit whose answer never came."""

from typing import Any

from confluent_kafka import KafkaError, KafkaException

from worker.cli import main
from worker.relay import relay
from worker.relay.publisher import Publisher


class Reused(Publisher):
    """Made once, fenced once, never closed."""

    def __new__(cls, *_: Any) -> Any:
        if not kept:
            kept.append(super().__new__(cls))
        return kept[0]

    def __init__(self, *arguments: Any) -> None:
        if not hasattr(self, "_producer"):
            super().__init__(*arguments)
            super().fence()

    def fence(self) -> None:
        pass

    def commit(self, *arguments: bytes) -> None:
        super().commit(*arguments)
        if not unanswered:
            unanswered.append(True)
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "the answer to a commit never came"))

    def close(self) -> None:
        pass


def read_committed(*arguments: Any) -> Any:
    if not known:
        known.append(honest(*arguments))
    return known[0]


kept: list[Any] = []
known: list[Any] = []
unanswered: list[bool] = []
honest = relay.read_committed
relay.read_committed = read_committed
relay.Publisher = Reused  # type: ignore[misc]
main()
