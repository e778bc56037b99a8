"""The signs of life that the worker's tasks leave, for threads that watch it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Signs:
    """Written in the event loop, read from any thread.

    `steps` counts batches that were decided and attempts that an outage ended; `outages` has, by topic, what a batch waits for.
    """

    steps: int = 0
    outages: dict[str, str] = field(default_factory=dict)
