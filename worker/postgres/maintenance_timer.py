"""Maintenance beside the worker: at its start, then at intervals; whatever becomes of it, the worker goes on."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from worker.postgres.maintenance import MaintenanceError, Retention, maintain

if TYPE_CHECKING:
    from worker.settings import RetentionSettings

_SECONDS_AFTER_A_FAILURE: Final = 60.0
_LOG = logging.getLogger(__name__)


def retention_of(settings: RetentionSettings) -> Retention:
    return Retention(inbox_days=settings.inbox_retention_days, outbox_days=settings.outbox_retention_days, slot=settings.relay_slot)


async def keep_maintained(settings: RetentionSettings) -> None:
    """Until it is cancelled. What can't be done is logged when it begins and when it ends, not at every try."""
    retention = retention_of(settings)
    told: tuple[str, ...] = ()
    while True:
        pause = settings.maintenance_seconds
        try:
            report = await maintain(settings.writer_dsn, retention)
        except MaintenanceError as error:
            troubles: tuple[str, ...] = (str(error),)
            pause = min(pause, _SECONDS_AFTER_A_FAILURE)
        except Exception as error:  # noqa: BLE001 - the worker's own work is more than this
            troubles = (repr(error),)
            if troubles != told:
                _LOG.error("maintenance failed for a fault of ours", exc_info=error)
                told = troubles
        else:
            troubles = told if report.at_work else tuple(report.left)
            if report.dropped or report.deleted_rows:
                _LOG.info("past their retention: dropped %s and %d rows", ", ".join(report.dropped) or "no partition", report.deleted_rows)
        if troubles != told:
            _tell(troubles)
            told = troubles
        await asyncio.sleep(pause)


def _tell(troubles: tuple[str, ...]) -> None:
    for trouble in troubles:
        _LOG.warning("maintenance: %s", trouble)
    if not troubles:
        _LOG.warning("maintenance: nothing is left to do")
