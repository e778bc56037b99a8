"""SLO: a definition, the SLI windows that were recorded against it, and the error budget that follows from both.

Reads as the SLO chapter of docs/contract.md does: commands, facts, state, check(), decide(), evolve().
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, assert_never

from worker.domain.error_budget import NOTHING, OCCURRENCES, RATIO_TIMESLICES, TIMESLICES, Sums, measure, remaining_percent
from worker.domain.fields import (
    KNOWN_FIELDS_ONLY,
    Boolean,
    BudgetPercent,
    Int32,
    Int64,
    Line200,
    Listed,
    NonNegativeInt32,
    Percent,
    Text2000,
    Text10000,
    Timestamp,
    blank,
    format_rfc3339,
    slug,
)
from worker.domain.outcome import CLOCK_TOLERANCE, NO_CHANGE, Context, NoChange
from worker.domain.rejection import Rejection, RejectionCode, refuse_fields, refuse_other_version
from worker.domain.sli_ledger import (
    KEPT,
    WIDTHS,
    Ledger,
    SliWindow,
    hour_of,
    hours_between,
    is_aligned,
    overlapping,
    prune,
    put,
    total_between,
    total_since,
    window_at,
)

MAX_EVENTS: Final = 10**12
WINDOWS: Final = {"7d": timedelta(days=7), "28d": timedelta(days=28), "30d": timedelta(days=30)}

NO_DATA: Final = "no_data"
AVAILABLE: Final = "available"
EXHAUSTED: Final = "exhausted"

check_id = slug  # an SLO's id is chosen by its creator


@dataclass(frozen=True, slots=True, kw_only=True)
class SliSpec:
    """What to measure: what counts as a good event and as an event, and how they are budgeted."""

    __pydantic_config__ = KNOWN_FIELDS_ONLY

    good: Text2000 = ""
    total: Text2000 = ""
    budgeting_method: Listed
    slice_seconds: Int32 | None = None
    slice_target: Percent | None = None

    def measure(self, window: SliWindow) -> Sums:
        return measure(window.good, window.total, self.budgeting_method, self.slice_target)


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """Everything about an SLO that people choose; `target` in percent, `window` rolling."""

    __pydantic_config__ = KNOWN_FIELDS_ONLY

    name: Line200
    description: Text10000 = ""
    target: Percent
    window: Listed
    sli_spec: SliSpec
    owner: Line200
    scope: Line200


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateSLO(Definition):
    actor: Line200


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateSLO(Definition):
    actor: Line200
    expected_version: Int64 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSLIWindow:
    """Counts of the window [start, start + width_seconds); a higher revision corrects a lower one."""

    __pydantic_config__ = KNOWN_FIELDS_ONLY

    start: Timestamp
    width_seconds: Int32
    good: Int64
    total: Int64
    revision: NonNegativeInt32 = 0
    expected_version: Int64 | None = None


Command = CreateSLO | UpdateSLO | RecordSLIWindow


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The error budget at `as_of`, the newest window end seen; remaining and consumed in percent, adding up to 100."""

    budget_status: Listed
    current_budget_remaining: BudgetPercent
    budget_consumed: BudgetPercent
    as_of: Timestamp | None = None


UNTOUCHED: Final = Budget(budget_status=NO_DATA, current_budget_remaining=Decimal(100), budget_consumed=Decimal(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class SLOCreated(Definition):
    actor: Line200


@dataclass(frozen=True, slots=True, kw_only=True)
class SLOUpdated(Definition):
    budget_restarted: Boolean
    budget: Budget
    actor: Line200


@dataclass(frozen=True, slots=True, kw_only=True)
class SLIWindowRecorded:
    start: Timestamp
    width_seconds: Int32
    good: Int64
    total: Int64
    revision: Int32
    budget: Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class SLOBudgetExhausted:
    budget: Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class SLOBudgetRecovered:
    budget: Budget


Fact = SLOCreated | SLOUpdated | SLIWindowRecorded | SLOBudgetExhausted | SLOBudgetRecovered
Outcome = tuple[Fact, ...] | NoChange | Rejection


@dataclass(frozen=True, slots=True)
class SLO:
    """The row. `counted` sums the windows with start ≥ as_of - window; `ledger` may hold only the hours that a decision needs."""

    version: int
    created_at: datetime
    updated_at: datetime
    definition: Definition
    budget: Budget
    measured_from: datetime | None
    counted: Sums
    ledger: Ledger

    @property
    def length(self) -> timedelta:
        return WINDOWS[self.definition.window]

    @property
    def oldest_counted(self) -> datetime | None:
        return None if self.budget.as_of is None else self.budget.as_of - self.length


def check(command: Command, context: Context) -> Rejection | None:
    """The rules that need nothing stored, in the contract's order; None where all hold."""
    match command:
        case CreateSLO() | UpdateSLO():
            return _check_definition(command)
        case RecordSLIWindow():
            return _check_window(command, context)
        case _:
            assert_never(command)


def _check_definition(definition: Definition) -> Rejection | None:
    if not 0 < definition.target < 100:  # noqa: PLR2004 - percent
        return refuse_fields(RejectionCode.SLO_TARGET_OUT_OF_RANGE, {"target": "must lie between 0 and 100"})
    if definition.window not in WINDOWS:
        return refuse_fields(RejectionCode.SLO_WINDOW_UNSUPPORTED, {"window": f"must be one of {', '.join(WINDOWS)}"})
    faults = _spec_faults(definition.sli_spec)
    return refuse_fields(RejectionCode.SLI_SPEC_INVALID, faults) if faults else None


def _spec_faults(spec: SliSpec) -> dict[str, str]:
    faults = {f"sli_spec.{name}": "must not be blank" for name in ("good", "total") if blank(getattr(spec, name))}
    if spec.budgeting_method not in (OCCURRENCES, TIMESLICES, RATIO_TIMESLICES):
        faults["sli_spec.budgeting_method"] = "must be occurrences, timeslices or ratio_timeslices"
        return faults
    if spec.budgeting_method == OCCURRENCES:
        if spec.slice_seconds is not None:
            faults["sli_spec.slice_seconds"] = "must be null for occurrences"
    elif spec.slice_seconds not in WIDTHS:
        faults["sli_spec.slice_seconds"] = "must be 60 or 300"
    if spec.budgeting_method == TIMESLICES:
        if spec.slice_target is None or not 0 < spec.slice_target <= 100:  # noqa: PLR2004 - percent
            faults["sli_spec.slice_target"] = "must lie above 0, up to 100"
    elif spec.slice_target is not None:
        faults["sli_spec.slice_target"] = f"must be null for {spec.budgeting_method}"
    return faults


def _check_window(command: RecordSLIWindow, context: Context) -> Rejection | None:
    if command.width_seconds not in WIDTHS:
        return refuse_fields(RejectionCode.SLI_WINDOW_MISALIGNED, {"width_seconds": "must be 60 or 300"})
    if not is_aligned(command.start, command.width_seconds):
        fault = f"must be a whole multiple of {command.width_seconds} s since 1970"
        return refuse_fields(RejectionCode.SLI_WINDOW_MISALIGNED, {"start": fault})
    faults = {name: "must lie between 0 and 10^12" for name in ("good", "total") if not 0 <= getattr(command, name) <= MAX_EVENTS} or (
        {"good": "must be at most total"} if command.good > command.total else {}
    )
    if faults:
        return refuse_fields(RejectionCode.SLI_COUNTS_INVALID, faults)
    if _exceeds(command.start, command.width_seconds, context.time + CLOCK_TOLERANCE):
        return refuse_fields(RejectionCode.TIMESTAMP_IN_FUTURE, {"start": "must have its window end at most 5 minutes after ce_time"})
    return None


def _exceeds(start: datetime, width_seconds: int, latest: datetime) -> bool:
    return latest - start < WIDTHS[width_seconds]  # no sum that could leave the years of datetime


def decide(slo: SLO | None, command: Command, context: Context) -> Outcome:
    """What a command that passed check() comes to. Facts are in the order in which they take versions."""
    if isinstance(command, CreateSLO):
        if slo is not None:
            return Rejection(RejectionCode.SLO_ALREADY_EXISTS, f"SLO {context.aggregate_id} exists")
        return (SLOCreated(**_definition_fields(command), actor=command.actor),)
    if slo is None:
        return Rejection(RejectionCode.SLO_NOT_FOUND, f"there is no SLO {context.aggregate_id}")
    if conflict := refuse_other_version(command.expected_version, slo.version):
        return conflict
    match command:
        case UpdateSLO():
            return _update(slo, command)
        case RecordSLIWindow():
            return _record(slo, command)
        case _:
            assert_never(command)


def _update(slo: SLO, command: UpdateSLO) -> Outcome:
    definition = Definition(**_definition_fields(command))
    if definition == slo.definition:
        return NO_CHANGE
    restarted = definition.sli_spec != slo.definition.sli_spec
    counted = NOTHING if restarted else _recount(slo, definition)
    budget = _budget(definition, counted, slo.budget.as_of)
    updated = SLOUpdated(**_definition_fields(command), budget_restarted=restarted, budget=budget, actor=command.actor)
    return (updated, *_crossing(slo.budget, budget))


def _record(slo: SLO, command: RecordSLIWindow) -> Outcome:
    slice_seconds = slo.definition.sli_spec.slice_seconds
    if slice_seconds is not None and command.width_seconds != slice_seconds:
        fault = f"must be {slice_seconds}, the SLO's slice_seconds"
        return refuse_fields(RejectionCode.SLI_WINDOW_MISALIGNED, {"width_seconds": fault})
    for oldest, what in ((slo.oldest_counted, "as_of less the SLO's window"), (slo.measured_from, "measured_from")):
        if oldest is not None and command.start < oldest:
            fault = f"must not lie before {format_rfc3339(oldest)}, {what}"
            return refuse_fields(RejectionCode.SLI_WINDOW_EXPIRED, {"start": fault})
    stored = window_at(slo.ledger, command.start)
    if stored is not None and stored.width_seconds == command.width_seconds and command.revision <= stored.revision:
        if command.revision < stored.revision or (command.good, command.total) == (stored.good, stored.total):
            return NO_CHANGE
        counts = f"revision {stored.revision} of this window has {stored.good} of {stored.total}"
        return Rejection(RejectionCode.SLI_WINDOW_CONFLICT, counts)
    other = overlapping(slo.ledger, command.start, command.width_seconds)
    if other is not None:
        return Rejection(RejectionCode.SLI_WINDOW_OVERLAP, f"the window stored at {format_rfc3339(other)} shares an instant with this one")
    as_of = _later_end(slo.budget.as_of, command)
    budget = _budget(slo.definition, _count(slo, command, stored, as_of), as_of)
    recorded = SLIWindowRecorded(
        start=command.start,
        width_seconds=command.width_seconds,
        good=command.good,
        total=command.total,
        revision=command.revision,
        budget=budget,
    )
    return (recorded, *_crossing(slo.budget, budget))


def _crossing(before: Budget, after: Budget) -> tuple[SLOBudgetExhausted | SLOBudgetRecovered, ...]:
    was, now = before.budget_status == EXHAUSTED, after.budget_status == EXHAUSTED
    if was == now:
        return ()
    return (SLOBudgetExhausted(budget=after),) if now else (SLOBudgetRecovered(budget=after),)


def _budget(definition: Definition, counted: Sums, as_of: datetime | None) -> Budget:
    spec = definition.sli_spec
    slices = 0 if spec.slice_seconds is None else WINDOWS[definition.window] // WIDTHS[spec.slice_seconds]
    remaining = remaining_percent(counted, spec.budgeting_method, definition.target, slices)
    status = NO_DATA if counted.total == 0 else EXHAUSTED if remaining <= 0 else AVAILABLE
    return Budget(budget_status=status, current_budget_remaining=remaining, budget_consumed=100 - remaining, as_of=as_of)


def _definition_fields(definition: Definition) -> dict[str, Any]:
    return {name: getattr(definition, name) for name in Definition.__dataclass_fields__}


def _later_end(as_of: datetime | None, window: RecordSLIWindow | SLIWindowRecorded) -> datetime:
    end = window.start + WIDTHS[window.width_seconds]
    return end if as_of is None or end > as_of else as_of


def _count(slo: SLO, window: RecordSLIWindow | SLIWindowRecorded, replaced: SliWindow | None, as_of: datetime) -> Sums:
    """The sums once this window is in, in place of the one it replaces, and the window of the SLO has rolled on to `as_of`."""
    measured = slo.definition.sli_spec.measure
    counted = slo.counted
    if slo.budget.as_of is not None and as_of > slo.budget.as_of:
        rolled_out = total_between(slo.ledger, slo.budget.as_of - slo.length, as_of - slo.length, measured)
        if rolled_out is not NOTHING:
            counted = counted.minus(rolled_out)
    if replaced is not None:
        counted = counted.minus(measured(replaced))
    return counted.plus(measured(SliWindow(window.width_seconds, window.good, window.total, window.revision)))


def _recount(slo: SLO, definition: Definition) -> Sums:
    if slo.budget.as_of is None:
        return NOTHING
    return total_since(slo.ledger, slo.budget.as_of - WINDOWS[definition.window], definition.sli_spec.measure)


def hours_needed(slo: SLO | None, commands: Iterable[Command]) -> set[datetime]:
    """The hours of the ledger that deciding these commands, in order, can read or change."""
    recorded = [command for command in commands if isinstance(command, RecordSLIWindow)]
    updated = any(isinstance(command, UpdateSLO) for command in commands)
    as_of = None if slo is None else slo.budget.as_of
    if slo is None or as_of is None:
        return set()
    hours = {hour_of(command.start) for command in recorded}
    newest = max((_later_end(as_of, command) for command in recorded), default=as_of)
    if updated:
        hours.update(hours_between(as_of - KEPT, as_of))
    elif newest > as_of:
        for behind in {slo.length, KEPT}:
            hours.update(hours_between(as_of - behind, min(newest - behind, as_of)))
    return hours


def evolve(slo: SLO | None, fact: Fact, context: Context) -> SLO:
    """The state after a fact. Folding all facts of an SLO gives its row, ledger included."""
    if isinstance(fact, SLOCreated):
        return SLO(1, context.time, context.time, Definition(**_definition_fields(fact)), UNTOUCHED, None, NOTHING, {})
    if slo is None:
        raise ValueError(f"{type(fact).__name__} on an SLO that was never created")
    version, updated_at = slo.version + 1, max(slo.updated_at, context.time)
    match fact:
        case SLOUpdated():
            definition = Definition(**_definition_fields(fact))
            restart = fact.budget_restarted
            return SLO(
                version,
                slo.created_at,
                updated_at,
                definition,
                fact.budget,
                slo.budget.as_of if restart else slo.measured_from,
                NOTHING if restart else _recount(slo, definition),
                {} if restart else slo.ledger,
            )
        case SLIWindowRecorded(budget=budget):
            as_of = _later_end(slo.budget.as_of, fact)
            window = SliWindow(fact.width_seconds, fact.good, fact.total, fact.revision)
            replaced = window_at(slo.ledger, fact.start)
            ledger = put(slo.ledger, fact.start, window, replaced, slo.definition.sli_spec.measure)
            counted = _count(slo, fact, replaced, as_of)
            return SLO(version, slo.created_at, updated_at, slo.definition, budget, slo.measured_from, counted, prune(ledger, as_of))
        case SLOBudgetExhausted() | SLOBudgetRecovered():
            return replace(slo, version=version, updated_at=updated_at)
        case _:
            assert_never(fact)
