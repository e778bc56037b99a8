"""The laws of docs/contract.md, "Invariants", held against what Kafka and PostgreSQL really hold.

Pure: it is given what was read and names every breach. Knows the contract and the fold, nothing of how either came about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.audit import aggregates, bus
from worker.audit.observed import Evidence, Outcome, header_values, place, see
from worker.topics import REJECTED_TOPIC

if TYPE_CHECKING:
    from worker.codec import Codec

__all__ = ["Evidence", "Outcome", "breaches", "header_values"]


def breaches(evidence: Evidence, codec: Codec) -> list[str]:
    """One line for each breach, beginning with the number of the invariant; empty where all laws hold."""
    seen, unreadable = [], []
    for record in evidence.published:
        if record.topic != REJECTED_TOPIC:
            try:
                seen.append(see(record, codec))
            except (KeyError, ValueError) as error:
                unreadable.append(f"5: {place(record)} is no fact that can be folded: {error}")
    return [*unreadable, *bus.breaches(evidence, seen, codec), *aggregates.breaches(seen)]
