"""Signatures verified beside the event loop.

One takes about 100 µs of a CPU, two thirds of what all the rest of an intent takes of a worker. Verifying lets go of Python's lock, so a
thread does it meanwhile; for a record that waits until the batch before its own is decided, it is done by then.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, NamedTuple

from worker.signing_keys import claim_of, proof_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.envelope import Header, Record
    from worker.signing_keys import Claim, Key, Proof

_CHUNK: Final = 32  # signatures, about 3 ms
_THREADS: Final = max(1, min(2, (os.cpu_count() or 1) - 1))  # one keeps up with the event loop; more fight with it for Python's lock
_MOST_AHEAD: Final = 4_096
_LARGE_VALUE: Final = 4_096  # bytes: what waits is held twice


class _Verified(NamedTuple):
    """What is known of one record, or will be: of these headers and this value, and not of others that are equal."""

    headers: Sequence[Header]
    value: bytes | None
    public_key: bytes | None
    results: Future[list[bool]]
    place: int

    def is_of(self, record: Record, key: Key | None) -> bool:
        return self.headers is record.headers and self.value is record.value and key is not None and self.public_key == key.public_key


class Verifier:
    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "signatures")
        self._coming: list[Record] = []
        self._ahead: dict[int, _Verified] = {}

    def expect(self, record: Record, keys: Mapping[str, Key]) -> None:
        """Begin with a record that will be in a batch; with `keys` as they are by now, and in vain where its own is another by then."""
        if not record.headers or len(record.value or b"") > _LARGE_VALUE:
            return
        self._coming.append(record)
        if len(self._coming) >= _CHUNK:
            records, self._coming = self._coming, []
            if len(self._ahead) >= _MOST_AHEAD:  # more than can wait: some never came to their batch
                self._ahead.clear()
            begun = self._begin(records, [claim_of(record) for record in records], keys)
            self._ahead.update((id(record.headers), one) for record, one in zip(records, begun, strict=True))

    async def verified(self, records: Sequence[Record], claims: Sequence[Claim], keys: Mapping[str, Key]) -> list[bool]:
        """Whether each record's signature is good, in their order."""
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
        unfinished = {one.results for one in found if not one.results.done()}
        await asyncio.gather(*map(asyncio.wrap_future, unfinished))
        return [one.results.result()[one.place] for one in found]

    def _take(self, record: Record, key: Key | None) -> _Verified | None:
        one = self._ahead.pop(id(record.headers), None)
        return one if one is not None and one.is_of(record, key) else None

    def _begin(self, records: Sequence[Record], claims: Sequence[Claim], keys: Mapping[str, Key]) -> list[_Verified]:
        proofs = [proof_of(claim, record, keys) for claim, record in zip(claims, records, strict=True)]
        results: Future[list[bool]] = Future()
        if len(proofs) < _CHUNK:
            results.set_result(verify(proofs))  # to wait for a thread would take as long
        else:
            results = self._threads.submit(verify, proofs)
        return [
            _Verified(record.headers, record.value, None if proof is None else proof.public_key, results, place)
            for place, (record, proof) in enumerate(zip(records, proofs, strict=True))
        ]


def verify(proofs: Sequence[Proof | None]) -> list[bool]:
    return [proof is not None and proof.holds() for proof in proofs]
