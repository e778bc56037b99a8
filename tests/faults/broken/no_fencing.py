"""The relay whose transactional.id is its own and not the slot's, stopped by SIGSTOP with a transaction open."""

import os
import signal
from typing import Any
from uuid import uuid4

from worker.cli import main
from worker.relay import relay
from worker.relay.publisher import Publisher


class Unfenced(Publisher):
    def __init__(self, config: Any, _slot: str, _timeout_seconds: float, waiting: Any) -> None:
        super().__init__(config, uuid4().hex, 60.0, waiting)  # no broker ends the transaction meanwhile

    def commit(self, *arguments: bytes) -> None:
        self._producer.flush(5)
        os.kill(os.getpid(), signal.SIGSTOP)
        super().commit(*arguments)


relay.Publisher = Unfenced  # type: ignore[misc]
main()
