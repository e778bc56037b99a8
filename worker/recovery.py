"""What happens when a batch can't be saved: wait for an outage to end, try again after a conflict, single out a record that is at fault.

An outage gives no outcome and acknowledges nothing. A fault of ours costs one record an INTERNAL_ERROR, never its neighbours.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import errors
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, stop_never, wait_random_exponential

from worker.domain.rejection import Rejection, RejectionCode
from worker.pipeline import Intake, process_batch, reject_batch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from worker.envelope import Record

_LOG = logging.getLogger(__name__)

_CONFLICTS: Final = (errors.UniqueViolation, errors.SerializationFailure, errors.DeadlockDetected)
_CONFLICT_ATTEMPTS: Final = 8
_FAULT: Final = Rejection(RejectionCode.INTERNAL_ERROR, "this record could not be processed for a fault of ours; replay it when mended")


async def process_reliably(records: Sequence[Record], intake: Intake) -> None:
    """Return when every record has its one outcome. Raises only where going on is unsafe: the process must end."""
    try:
        await _patiently(lambda: process_batch(records, intake))
    except psycopg.ProgrammingError:
        raise  # schema or privileges are not what this version needs: no record is to blame
    except Exception as error:  # noqa: BLE001 - whatever a record may cause
        if len(records) == 1:
            _LOG.exception("%s[%d]@%d is rejected as INTERNAL_ERROR", *records[0][:3])
            await _patiently(lambda: reject_batch(records, intake, _FAULT))
            return
        _LOG.warning("a batch of %d is halved to find the record at fault: %s", len(records), type(error).__name__)
        half = len(records) // 2
        await process_reliably(records[:half], intake)
        await process_reliably(records[half:], intake)


async def _patiently(work: Callable[[], Awaitable[None]]) -> None:
    outage = _OutageLog()
    retrying = AsyncRetrying(
        retry=retry_if_exception(lambda error: is_outage(error) or isinstance(error, _CONFLICTS)),
        stop=_stop_after_conflicts,
        wait=wait_random_exponential(multiplier=0.02, max=2),
        before_sleep=outage.began,
        reraise=True,
    )
    async for attempt in retrying:
        with attempt:
            await work()
    outage.ended()


def is_outage(error: BaseException) -> bool:
    """Whether PostgreSQL is away, full or read-only, or the schema registry is away: nothing that a record could cause."""
    if isinstance(error, _CONFLICTS) or (isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith("54")):
        return False  # class 54 is a program limit, which a record may well hit
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | errors.ReadOnlySqlTransaction | OSError)


def _stop_after_conflicts(state: RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome is not None else None
    policy = stop_never if error is None or is_outage(error) else stop_after_attempt(_CONFLICT_ATTEMPTS)
    return policy(state)


class _OutageLog:
    """One line when an outage begins and one when it is over, however many attempts lie between."""

    def __init__(self) -> None:
        self._out = False

    def began(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if not self._out and error is not None and is_outage(error):
            self._out = True
            _LOG.warning("waiting, and nothing is lost: %s", " ".join(str(error).split()) or repr(error))

    def ended(self) -> None:
        if self._out:
            _LOG.warning("the wait is over")
