"""The signs of life that the worker's tasks leave, for threads that watch it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Signs:
    """Written in the event loop, read from any thread.

    `steps` counts batches that were decided and attempts that an outage ended; `outages` has, by topic, what a batch waits for.
    `unsigned` counts, by code, the intents that were taken where signatures are no more than counted, and would be refused where required.
    """

    steps: int = 0
    outages: dict[str, str] = field(default_factory=dict)
    unsigned: Counter[str] = field(default_factory=Counter)
