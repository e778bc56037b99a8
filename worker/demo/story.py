"""What the demonstration asks for: SLOs over one real log, minute by minute, what clients get wrong, and an incident meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from worker.client import Outgoing
from worker.demo.asking import NO_CHANGE, Asked, ask
from worker.demo.operations import operations
from worker.domain.aggregate import SLO
from worker.domain.fields import EPOCH
from worker.domain.rejection import RejectionCode
from worker.domain.slo import CreateSLO, RecordSLIWindow, SliSpec, UpdateSLO
from worker.topics import intents_topic

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from worker.codec import Codec
    from worker.domain.slo import Command
    from worker.integrations.access_log import Window

_MINUTES_BETWEEN_FAULTS: Final = 40
_FIRST_OPERATION: Final = 20  # minutes of the log before the first of them, and between two
_MINUTES_BETWEEN_OPERATIONS: Final = 20
_WATCHED: Final = "requests-7d"  # the SLO that the faulty intents are about
_TIGHTENED: Final = "requests-28d"
_TIGHTER_TARGET: Final = Decimal("99.9")


@dataclass(frozen=True, slots=True)
class Story:
    """The SLOs are asked for first; then comes what is asked in each minute of the log, and after its last."""

    creations: Sequence[Asked]
    minutes: Sequence[Sequence[Asked]]

    @property
    def all(self) -> list[Asked]:
        return [*self.creations, *(asked for minute in self.minutes for asked in minute)]


def definitions() -> dict[str, CreateSLO]:
    """By SLO id, chosen so that with the log's figures some budgets last, some are exhausted and some recover."""
    requests = SliSpec(good="status < 500", total="all requests", budgeting_method="occurrences")
    minutes = replace(requests, budgeting_method="timeslices", slice_seconds=60, slice_target=Decimal(95))
    ratios = replace(requests, budgeting_method="ratio_timeslices", slice_seconds=60)
    return {
        "requests-7d": _definition("Good requests of the week", "99.9", "7d", requests),
        "requests-28d": _definition("Good requests of four weeks", "99", "28d", requests),
        "requests-30d": _definition("Good requests of the month", "99.8", "30d", requests),
        "minutes-7d": _definition("Good minutes of the week", "99.95", "7d", minutes),
        "minutes-28d": _definition("Good minutes of four weeks", "99.5", "28d", minutes),
        "ratio-7d": _definition("Mean ratio of the week's minutes", "99", "7d", ratios),
    }


def tell(windows: Sequence[Window], now: datetime, codec: Codec) -> Story:
    """The story for these windows of 60 s, with all its intents asked at `now`."""
    slos = definitions()
    creations = [ask(command, slo_id, now, codec) for slo_id, command in slos.items()]
    minutes: list[list[Asked]] = []
    for number, window in enumerate(windows, start=1):
        minutes.append([ask(_recording(window), slo_id, now, codec) for slo_id in slos])
        if number % _MINUTES_BETWEEN_FAULTS == 0:
            recorded = minutes[-1][list(slos).index(_WATCHED)]
            minutes[-1] += [recorded, *_mistakes(_recording(window), recorded.intent_id, now, codec)]
    for number, moment in enumerate(operations(now, codec)):
        minutes[_FIRST_OPERATION + number * _MINUTES_BETWEEN_OPERATIONS] += moment
    minutes.append([ask(_update(slos[_TIGHTENED], target=_TIGHTER_TARGET), _TIGHTENED, now, codec)])
    return Story(creations, minutes)


def _mistakes(recorded: RecordSLIWindow, used_id: str, now: datetime, codec: Codec) -> Iterator[Asked]:
    """Intents that change nothing, about a window that was recorded by the intent `used_id`."""

    def wrong(command: Command, due: str, slo_id: str = _WATCHED, time: datetime = now, **rest: Any) -> Asked:  # noqa: ANN401 - an intent's id
        return ask(command, slo_id, time, codec, due, **rest)

    five_minutes = timedelta(minutes=5)
    covering = recorded.start - (recorded.start - EPOCH) % five_minutes
    yield wrong(recorded, NO_CHANGE)
    yield wrong(replace(recorded, good=recorded.total + 1), RejectionCode.SLI_COUNTS_INVALID)
    yield wrong(replace(recorded, start=recorded.start + timedelta(seconds=30)), RejectionCode.SLI_WINDOW_MISALIGNED)
    yield wrong(replace(recorded, start=covering, width_seconds=300), RejectionCode.SLI_WINDOW_OVERLAP)
    yield wrong(replace(recorded, total=recorded.total + 1), RejectionCode.SLI_WINDOW_CONFLICT)
    yield wrong(recorded, RejectionCode.SLO_NOT_FOUND, "no-such-slo")
    yield wrong(replace(definitions()[_WATCHED], target=Decimal(100)), RejectionCode.SLO_TARGET_OUT_OF_RANGE, "perfection")
    yield wrong(recorded, RejectionCode.TIMESTAMP_IN_FUTURE, time=now + timedelta(hours=1))
    yield wrong(replace(recorded, revision=1), RejectionCode.IDEMPOTENCY_KEY_REUSED, intent_id=used_id)
    unreadable = wrong(recorded, RejectionCode.SCHEMA_INVALID)
    yield replace(unreadable, record=replace(unreadable.record, value=b"not Avro"))
    stray = f"a stray record of {recorded.start}".encode()
    yield Asked(Outgoing(intents_topic(SLO.name), b"?", stray, ()), "", RejectionCode.TENANT_REQUIRED)


def _recording(window: Window) -> RecordSLIWindow:
    return RecordSLIWindow(start=window.start, width_seconds=window.width_seconds, good=window.good, total=window.total)


def _update(definition: CreateSLO, **changes: Any) -> UpdateSLO:  # noqa: ANN401 - of any field
    fields = {name: getattr(definition, name) for name in CreateSLO.__dataclass_fields__}
    return UpdateSLO(**{**fields, **changes})


def _definition(name: str, target: str, window: str, sli_spec: SliSpec) -> CreateSLO:
    return CreateSLO(name=name, target=Decimal(target), window=window, sli_spec=sli_spec, owner="sre", scope="weblog", actor="demo")
