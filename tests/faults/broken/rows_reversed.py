"""The relay that publishes the rows of a group in the order of a stack."""

from typing import Any

from worker.cli import main
from worker.relay.publisher import Publisher


def hold(_: Publisher, record: Any) -> None:
    held.append(record)


def commit(self: Publisher, *watermark: bytes) -> None:
    while held:
        honest_publish(self, held.pop())
    honest_commit(self, *watermark)


held: list[Any] = []
honest_publish, honest_commit = Publisher.publish, Publisher.commit
Publisher.publish = hold  # type: ignore[method-assign]
Publisher.commit = commit  # type: ignore[method-assign]
main()
