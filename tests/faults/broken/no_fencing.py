"""The relay whose transactional.id is its own and not the slot's, stopped by SIGSTOP with a group in hand."""

import os
import signal
from typing import Any
from uuid import uuid4

from worker.cli import main
from worker.relay import relay
from worker.relay.publisher import Publisher


class Unfenced(Publisher):
    def __init__(self, config: Any, _slot: str, *arguments: Any) -> None:
        super().__init__(config, uuid4().hex, *arguments)
        self.held: list[Any] = []

    def publish(self, record: Any) -> None:
        self.held.append(record)

    def commit(self, *watermark: bytes) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)
        for record in self.held:
            super().publish(record)
        super().commit(*watermark)


relay.Publisher = Unfenced  # type: ignore[misc]
main()
