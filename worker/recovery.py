"""What happens when a batch can't be saved: wait for an outage to end, try again after a conflict, single out a record that is at fault.

An outage gives no outcome and acknowledges nothing. A fault of ours costs one record an INTERNAL_ERROR, never its neighbours.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, TypeVar

import psycopg
from psycopg import errors
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, stop_never, wait_random_exponential

from worker.domain.rejection import Rejection, RejectionCode
from worker.errors import WorkerError
from worker.pipeline import Intake, Unseen, process_batch, reject_batch
from worker.signs import Signs
from worker.trace_context import about

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from worker.envelope import Record

T = TypeVar("T")

_LOG = logging.getLogger(__name__)

_CONFLICTS: Final = (errors.UniqueViolation, errors.SerializationFailure, errors.DeadlockDetected)
_PAUSED: Final = errors.TransactionTimeout  # this process, in a transaction, for longer than its session allows
_OUTAGES: Final = (psycopg.OperationalError, psycopg.InterfaceError, errors.ReadOnlySqlTransaction, _PAUSED, OSError)
_CONFLICT_ATTEMPTS: Final = 8
ATTEMPT_SECONDS: Final = 30.0  # a batch takes milliseconds; a paused server, or a lock that a paused worker holds, takes for ever
_FAULT: Final = Rejection(RejectionCode.INTERNAL_ERROR, "this record could not be processed for a fault of ours; replay it when mended")


async def process_reliably(records: Sequence[Record], intake: Intake, signs: Signs | None = None, missing: Collection[int] = ()) -> Unseen:
    """Return when every record has its one outcome, but for those that nobody can read before the schema registry is asked.

    Raises only where going on is unsafe: the process must end.
    """
    signs = signs or Signs()
    try:
        return await _patiently(lambda: process_batch(records, intake, missing), intake.topic, signs)
    except (psycopg.ProgrammingError, WorkerError):
        raise  # schema or privileges are not what this version needs: no record is to blame
    except Exception as error:  # noqa: BLE001 - whatever a record may cause
        if len(records) == 1:
            _LOG.exception("%s[%d]@%d is rejected as INTERNAL_ERROR", *records[0][:3], extra=about(records[0]))
            await _patiently(lambda: reject_batch(records, intake, _FAULT), intake.topic, signs)
            return Unseen()
        _LOG.warning("a batch of %d is halved to find the record at fault: %s", len(records), type(error).__name__)
        half = len(records) // 2
        first = await process_reliably(records[:half], intake, signs, missing)
        rest = [record for record in records[half:] if record.partition not in first.first_offsets]
        return first.joined(await process_reliably(rest, intake, signs, missing) if rest else Unseen())


async def _patiently(work: Callable[[], Awaitable[T]], topic: str, signs: Signs) -> T:
    outage = _Outage(topic, signs)
    retrying = AsyncRetrying(
        retry=retry_if_exception(lambda error: is_outage(error) or isinstance(error, _CONFLICTS)),
        stop=_stop_after_conflicts,
        wait=wait_random_exponential(multiplier=0.02, max=2),
        before_sleep=outage.began,
        reraise=True,
    )
    async for attempt in retrying:
        with attempt:
            result = await _in_time(work)
    signs.steps += 1
    outage.ended()
    return result


async def _in_time(work: Callable[[], Awaitable[T]]) -> T:
    """A server that is there and does not answer is as good as away; the connection that waits for it is given up."""
    limit = asyncio.timeout(ATTEMPT_SECONDS)
    try:
        async with limit:
            return await work()
    except TimeoutError as error:
        if limit.expired():
            raise TimeoutError(f"PostgreSQL did not answer within {ATTEMPT_SECONDS:.0f} s") from error
        raise


def is_outage(error: BaseException) -> bool:
    """Whether PostgreSQL is away, full or read-only, or the schema registry is away: nothing that a record could cause."""
    if isinstance(error, _CONFLICTS) or (isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith("54")):
        return False  # class 54 is a program limit, which a record may well hit
    return isinstance(error, _OUTAGES)


def _stop_after_conflicts(state: RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome is not None else None
    policy = stop_never if error is None or is_outage(error) else stop_after_attempt(_CONFLICT_ATTEMPTS)
    return policy(state)


class _Outage:
    """One line when an outage begins and one when it is over, however many attempts lie between; meanwhile it stands in the signs."""

    def __init__(self, topic: str, signs: Signs) -> None:
        self._topic, self._signs = topic, signs

    def began(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if error is None or not is_outage(error):
            return
        self._signs.steps += 1  # trying again is all that can be done
        why = " ".join(str(error).split()) or repr(error)
        if self._topic not in self._signs.outages:
            _LOG.warning("waiting, and nothing is lost: %s", why)
        self._signs.outages[self._topic] = why

    def ended(self) -> None:
        if self._signs.outages.pop(self._topic, None) is not None:
            _LOG.warning("the wait is over")
