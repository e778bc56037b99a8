"""The relay that confirms a group to PostgreSQL before it is committed in Kafka, and dies between the two."""

import os
from collections.abc import Iterator
from typing import Any

from worker.cli import main
from worker.relay import relay


def relay_groups(link: Any) -> Iterator[int]:
    while True:
        group = relay.publish_pending(link)
        if group is None:
            link.stream.wait(relay.IDLE_SECONDS)
            continue
        link.stream.confirm(group.end_lsn)
        yield group.end_lsn
        if group.rows:
            link.stream.close()  # PostgreSQL has read all that was sent
            os._exit(9)


relay.relay_groups = relay_groups
main()
