"""Who asks, for a whole batch: check 4 on the keys as they are when it begins."""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from worker.signing_keys import Asker, asker_of, claim_of
from worker.trace_context import about
from worker.verifying import Verifier

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from worker.envelope import Envelope, Record
    from worker.receiving import Received
    from worker.signing_keys import Key

    KeysNow = Callable[[Collection[str]], Awaitable[Mapping[str, Key]]]

_LOG = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES: Final = 10.0


@dataclass(slots=True)
class Authentication:
    """For all agents of a process. `keys_now` gives the keys, asked for those ids among others.

    `failures` counts, by code, what `only_count` let through: nothing is refused then.
    """

    keys_now: KeysNow
    only_count: bool
    failures: Counter[str] = field(default_factory=Counter)
    _keys: Mapping[str, Key] = field(default_factory=dict)
    _verifier: Verifier = field(default_factory=Verifier)
    _told_at: float = -_SECONDS_BETWEEN_LINES

    def expect(self, record: Record) -> None:
        """Told of a record before its batch is taken, this verifies its signature meanwhile; whether that is enough is judged then."""
        self._verifier.expect(record, self._keys)

    async def who_asks(self, records: Sequence[Record]) -> Callable[[Record, Envelope], Asker]:
        """Check 4 of these records. Raises psycopg.Error or OSError where the keys can't be read."""
        claims = [claim_of(record) for record in records]
        keys = self._keys = await self.keys_now({claim.key_id for claim in claims if claim.key_id is not None})
        hold = await self._verifier.verified(records, claims, keys)
        known = {id(record): (claim, holds) for record, claim, holds in zip(records, claims, hold, strict=True)}

        def ask(record: Record, envelope: Envelope) -> Asker:
            claim, holds = known[id(record)]
            return asker_of(claim, envelope, keys, holds=holds)

        return ask

    def count(self, received: Sequence[Received]) -> None:
        """A line now and then says what would be refused."""
        doubts = Counter(str(item.doubt.code) for item in received if item.doubt is not None)
        if not doubts:
            return
        self.failures.update(doubts)
        if time.monotonic() - self._told_at >= _SECONDS_BETWEEN_LINES:
            self._told_at = time.monotonic()
            first = next(item.record for item in received if item.doubt is not None)
            codes = ", ".join(f"{code} {count}" for code, count in sorted(self.failures.items()))
            said = "signatures are not required: so far taken without a good one: %s; now %s[%d]@%d"
            _LOG.warning(said, codes, *first[:3], extra=about(first))
