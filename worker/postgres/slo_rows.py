"""An SLO's state as rows: one of slo, and those hours of its ledger that a batch touches."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from worker.domain.error_budget import Sums
from worker.domain.sli_ledger import LedgerHour
from worker.domain.slo import SLO, Budget, Command, Definition, SliSpec, hours_needed
from worker.postgres.named_sql import statements
from worker.postgres.rows import lock_rows, write_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from psycopg import AsyncConnection

    from worker.postgres.storage import Change, Key


async def lock(connection: AsyncConnection[Any], commands: Mapping[Key, Sequence[Command]]) -> dict[Key, SLO]:
    """Lock the SLOs and read them, each with the hours of its ledger that its commands need."""
    rows = await lock_rows(connection, "slo", commands)
    slos = {(row[0], row[1]): _from_row(row) for row in rows}
    needed = [(*key, hour) for key, slo in slos.items() for hour in hours_needed(slo, commands[key])]
    ledgers = await _read_hours(connection, needed) if needed else {}
    return {key: _with_ledger(slo, ledgers.get(key, {})) for key, slo in slos.items()}


async def read_all(connection: AsyncConnection[Any]) -> dict[Key, SLO]:
    """Every SLO with its whole ledger: for an audit, not for a batch."""
    rows = await (await connection.execute(statements("slo")["all_rows"], binary=True)).fetchall()
    ledgers = _by_slo(await (await connection.execute(statements("slo")["whole_ledger"], binary=True)).fetchall())
    return {(row[0], row[1]): _with_ledger(_from_row(row), ledgers.get((row[0], row[1]), {})) for row in rows}


async def save(connection: AsyncConnection[Any], changes: Mapping[Key, Change]) -> None:
    """Write what changed; meant to run inside a pipeline."""
    sql = statements("slo")
    rows: dict[str, list[dict[str, object]]] = {"insert_rows": [], "update_rows": [], "update_budgets": []}
    for key, change in changes.items():
        before, after = change.before, change.after
        if before is None:
            rows["insert_rows"].append(_definition_row(after) | _budget_row(key, after))
        elif before.definition is after.definition:  # nearly always: windows come every minute, definitions a few times a year
            rows["update_budgets"].append(_budget_row(key, after))
        else:
            rows["update_rows"].append(_definition_row(after) | _budget_row(key, after))
    for name, written in rows.items():
        await write_rows(connection, sql[name], written)
    hours: list[tuple[object, ...]] = []
    dropped: list[tuple[str, str, datetime]] = []
    for key, change in changes.items():
        held_before = {} if change.before is None else change.before.ledger
        held_after = change.after.ledger
        hours.extend((*key, hour, held.slots, *held.sums) for hour, held in held_after.items() if held_before.get(hour) is not held)
        dropped.extend((*key, hour) for hour in held_before if hour not in held_after)
    if hours:
        columns = ("tenant_id", "slo_id", "hour", "slots", *Sums._fields)
        await connection.execute(sql["save_ledger"], dict(zip(columns, map(list, zip(*hours, strict=True)), strict=True)))
    if dropped:
        tenant_ids, slo_ids, starts = map(list, zip(*dropped, strict=True))
        await connection.execute(sql["drop_ledger"], {"tenant_ids": tenant_ids, "slo_ids": slo_ids, "hours": starts})


async def _read_hours(
    connection: AsyncConnection[Any], needed: Sequence[tuple[str, str, datetime]]
) -> dict[Key, dict[datetime, LedgerHour]]:
    tenant_ids, slo_ids, hours = map(list, zip(*needed, strict=True))
    named = {"tenant_ids": tenant_ids, "slo_ids": slo_ids, "hours": hours}
    cursor = await connection.execute(statements("slo")["ledger_hours"], named, binary=True)
    return _by_slo(await cursor.fetchall())


def _by_slo(rows: Sequence[Sequence[Any]]) -> dict[Key, dict[datetime, LedgerHour]]:
    ledgers: dict[Key, dict[datetime, LedgerHour]] = defaultdict(dict)
    for tenant_id, slo_id, hour, slots, good, total, slices, bad_slices, ratios in rows:
        sums = Sums(good, total, slices, bad_slices, int(ratios))
        ledgers[tenant_id, slo_id][hour] = LedgerHour(slots, sums)
    return ledgers


def _with_ledger(slo: SLO, ledger: Mapping[datetime, LedgerHour]) -> SLO:
    return SLO(slo.version, slo.created_at, slo.updated_at, slo.definition, slo.budget, slo.measured_from, slo.counted, ledger)


def _from_row(row: Sequence[Any]) -> SLO:
    (_, _, version, created_at, updated_at, name, description, target, window, good, total, method, slice_seconds, slice_target, owner,
     scope, status, remaining, consumed, as_of, measured_from, counted_good, counted_total, slices, bad_slices, ratios) = row  # fmt: skip
    spec = SliSpec(good=good, total=total, budgeting_method=method, slice_seconds=slice_seconds, slice_target=slice_target)
    definition = Definition(name=name, description=description, target=target, window=window, sli_spec=spec, owner=owner, scope=scope)
    budget = Budget(budget_status=status, current_budget_remaining=remaining, budget_consumed=consumed, as_of=as_of)
    counted = Sums(counted_good, counted_total, slices, bad_slices, int(ratios))
    return SLO(version, created_at, updated_at, definition, budget, measured_from, counted, {})


def _definition_row(slo: SLO) -> dict[str, object]:
    definition, spec = slo.definition, slo.definition.sli_spec
    return {
        "created_at": slo.created_at,
        "name": definition.name,
        "description": definition.description,
        "target": definition.target,
        "window": definition.window,
        "sli_good": spec.good,
        "sli_total": spec.total,
        "budgeting_method": spec.budgeting_method,
        "slice_seconds": spec.slice_seconds,
        "slice_target": spec.slice_target,
        "owner": definition.owner,
        "scope": definition.scope,
    }


def _budget_row(key: Key, slo: SLO) -> dict[str, object]:
    budget = slo.budget
    return {
        "tenant_id": key[0],
        "slo_id": key[1],
        "version": slo.version,
        "updated_at": slo.updated_at,
        "budget_status": budget.budget_status,
        "current_budget_remaining": budget.current_budget_remaining,
        "budget_consumed": budget.budget_consumed,
        "as_of": budget.as_of,
        "measured_from": slo.measured_from,
        "counted_good": slo.counted.good,
        "counted_total": slo.counted.total,
        "counted_slices": slo.counted.slices,
        "counted_bad_slices": slo.counted.bad_slices,
        "counted_ratios": slo.counted.ratios,
    }
