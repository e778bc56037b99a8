"""Signatures verified beside the event loop, in another process.

One takes about 100 µs of a CPU, two thirds of what all the rest of an intent takes of a worker; for a record that waits until the batch
before its own is decided, it is done by then. A thread would not do: it gets Python's lock back only every 5 ms from a busy event loop.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from worker.signature_process import ProcessGoneError, Verifying, start_signature_process
from worker.signing_keys import claim_of, proof_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from worker.envelope import Header, Record
    from worker.signing_keys import Claim, Key, Proof

_CHUNK: Final = 32  # signatures, about 3 ms
_MOST_AHEAD: Final = 4_096
_ANSWER_SECONDS: Final = 5.0  # for what takes less than one: a process that is paused is as good as gone
_LARGE_VALUE: Final = 4_096  # bytes: what waits is held twice

_LOG = logging.getLogger(__name__)


class _Verified(NamedTuple):
    """What is known of one record, or will be: of these headers and this value, and not of others that are equal."""

    headers: Sequence[Header]
    value: bytes | None
    public_key: bytes | None
    results: asyncio.Future[list[bool]]
    place: int

    def is_of(self, record: Record, key: Key | None) -> bool:
        return self.headers is record.headers and self.value is record.value and key is not None and self.public_key == key.public_key


class Verifier:
    """For all agents of a worker, in one event loop. The process is started when there is enough to do for it, and anew when it is gone."""

    def __init__(self, start: Callable[[], Awaitable[Verifying]] = start_signature_process) -> None:
        self._start = start
        self._starting = asyncio.Lock()
        self._beside: Verifying | None = None
        self._coming: list[Record] = []
        self._ahead: dict[int, _Verified] = {}

    def expect(self, record: Record, keys: Mapping[str, Key]) -> None:
        """Begin with a record that will be in a batch; with `keys` as they are by now, and in vain where its own is another by then."""
        if self._beside is None or not record.headers or len(record.value or b"") > _LARGE_VALUE:
            return
        self._coming.append(record)
        if len(self._coming) >= _CHUNK:
            records, self._coming = self._coming, []
            if len(self._ahead) >= _MOST_AHEAD:  # more than can wait: some never came to their batch
                self._ahead.clear()
            begun = self._begin(records, [claim_of(record) for record in records], keys)
            self._ahead.update((id(record.headers), one) for record, one in zip(records, begun, strict=True))

    async def verified(self, records: Sequence[Record], claims: Sequence[Claim], keys: Mapping[str, Key]) -> list[bool]:
        """Whether each record's signature is good, in their order. Raises OSError where a process is needed and can't be started."""
        if len(records) >= _CHUNK:
            await self._have_a_process()
        taken = {id(record.headers) for record in records}
        self._coming = [record for record in self._coming if id(record.headers) not in taken]
        known = [self._take(record, keys.get(claim.key_id or "")) for record, claim in zip(records, claims, strict=True)]
        late = [number for number, one in enumerate(known) if one is None]
        for start in range(0, len(late), _CHUNK):
            chunk = late[start : start + _CHUNK]
            begun = self._begin([records[number] for number in chunk], [claims[number] for number in chunk], keys)
            for number, one in zip(chunk, begun, strict=True):
                known[number] = one
        found = [one for one in known if one is not None]
        await self._answered({one.results for one in found if not one.results.done()})
        return [_result(*each, keys) for each in zip(found, claims, records, strict=True)]

    async def _have_a_process(self) -> None:
        async with self._starting:
            if self._beside is not None and self._beside.is_gone:
                _LOG.warning("the process that verifies signatures is gone; another one is started")
                self._beside = None
            if self._beside is None:
                self._beside = await self._start()

    async def _answered(self, results: set[asyncio.Future[list[bool]]]) -> None:
        """Whatever the answers are. Others may wait for the same ones: they are not cancelled when this is."""
        if results:
            _, open_yet = await asyncio.wait(results, timeout=_ANSWER_SECONDS)
            if open_yet and self._beside is not None:
                self._beside.close()
                await asyncio.wait(open_yet)

    def _take(self, record: Record, key: Key | None) -> _Verified | None:
        one = self._ahead.pop(id(record.headers), None)
        return one if one is not None and one.is_of(record, key) else None

    def _begin(self, records: Sequence[Record], claims: Sequence[Claim], keys: Mapping[str, Key]) -> list[_Verified]:
        proofs = [proof_of(claim, record, keys) for claim, record in zip(claims, records, strict=True)]
        is_large = any(len(record.value or b"") > _LARGE_VALUE for record in records)
        if self._beside is None or len(proofs) < _CHUNK or is_large:  # to ask would take as long
            results = asyncio.get_running_loop().create_future()
            results.set_result(verify(proofs))
        else:
            results = self._beside.ask(proofs)
        return [
            _Verified(record.headers, record.value, None if proof is None else proof.public_key, results, place)
            for place, (record, proof) in enumerate(zip(records, proofs, strict=True))
        ]


def verify(proofs: Sequence[Proof | None]) -> list[bool]:
    return [proof is not None and proof.holds() for proof in proofs]


def _result(one: _Verified, claim: Claim, record: Record, keys: Mapping[str, Key]) -> bool:
    """What a process that is gone left open is verified here."""
    try:
        return one.results.result()[one.place]
    except ProcessGoneError:
        return verify([proof_of(claim, record, keys)])[0]
