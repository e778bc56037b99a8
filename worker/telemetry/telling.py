"""Several that are told of batches or groups as one, none of which can do harm: what it tells of is committed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Told = TypeVar("Told")

_LOG = logging.getLogger(__name__)


def telling(*listeners: Callable[[Told], None]) -> Callable[[Told], None] | None:
    """None where nobody listens. One that fails says so in the log once, since it may fail of every batch."""
    failed = set[int]()

    def tell(what: Told) -> None:
        for number, listener in enumerate(listeners):
            try:
                listener(what)
            except Exception:  # noqa: BLE001 - whatever it is
                if number not in failed:
                    failed.add(number)
                    _LOG.exception("telemetry failed; what was to be told is done all the same")

    return tell if listeners else None
