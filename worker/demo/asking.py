"""What the demonstration's clients send, each with the answer that is due."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from worker.client import Intent, Outgoing, to_outgoing
from worker.domain.aggregate import intent_name

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from worker.codec import Codec

TENANT: Final = "demo"
SOURCE: Final = "/sre-domain/demo"
FACTS: Final = "facts"
NO_CHANGE: Final = "no_change"


@dataclass(frozen=True, slots=True)
class Asked:
    """A record and the answer that is due: `facts`, `no_change` or the code of a rejection. A repeat is equal to what it repeats.

    It is sent once the intents in `after` have their facts: nothing orders two topics.
    """

    record: Outgoing
    intent_id: str
    due: str
    after: tuple[str, ...] = ()


def ask(
    command: object,
    aggregate_id: str,
    time: datetime,
    codec: Codec,
    due: str = FACTS,
    *,
    after: Iterable[Asked] = (),
    **rest: Any,  # noqa: ANN401 - more of the intent
) -> Asked:
    intent = Intent(intent_name(type(command)), TENANT, aggregate_id, command, SOURCE, time=time, **rest)
    return Asked(to_outgoing(intent, codec), intent.intent_id, due, tuple(asked.intent_id for asked in after))


def content(asked: Asked) -> tuple[bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]:
    """Equal for a record and its repeats only."""
    return asked.record.key, asked.record.value, tuple(asked.record.headers)


def audible_answers(asked: Iterable[Asked]) -> int:
    """How many intents are answered by a fact or a rejection; a repeat is answered once, with what it repeats."""
    return len({content(each) for each in asked if each.due != NO_CHANGE})
