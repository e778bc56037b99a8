"""The relay that takes a transaction's commit LSN for its end, and dies as soon as it has confirmed one.

It dies there because PostgreSQL's next keepalive, a moment later, would move the slot on and hide the break.
"""

import os
from collections.abc import Iterator
from typing import Any

from worker.cli import main
from worker.relay import relay


def confirmable_lsn(group: relay.Group) -> int:
    confirmed.append(group.rows)
    return group.commit_lsn


def relay_groups(link: Any) -> Iterator[int]:
    for position in honest(link):
        yield position
        if confirmed[-1]:
            os._exit(9)


confirmed: list[int] = []
honest = relay.relay_groups
relay.relay_groups = relay_groups
relay.confirmable_lsn = confirmable_lsn
main()
