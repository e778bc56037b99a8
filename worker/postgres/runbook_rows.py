"""A runbook's state as rows: one of runbook, and one for each execution that a batch can read or change."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg.types.json import Jsonb

from worker.domain.runbook import Command, Definition, Runbook, RunbookStep, executions_named
from worker.domain.runbook_execution import Execution, StepResult
from worker.postgres.named_sql import statements
from worker.postgres.rows import lock_rows, write_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from psycopg import AsyncConnection

    from worker.postgres.storage import Change, Key


async def lock(connection: AsyncConnection[Any], commands: Mapping[Key, Sequence[Command]]) -> dict[Key, Runbook]:
    """Lock the runbooks and read them, each with its unfinished executions and those that its commands name."""
    runbooks = _by_key(await lock_rows(connection, "runbook", commands))
    named = [(*key, UUID(execution_id)) for key in runbooks for execution_id in executions_named(commands[key])]
    return _with_executions(runbooks, await _read_executions(connection, runbooks, named) if runbooks else ())


async def read_all(connection: AsyncConnection[Any]) -> dict[Key, Runbook]:
    """Every runbook with all its executions: for an audit, not for a batch."""
    sql = statements("runbook")
    runbooks = _by_key(await (await connection.execute(sql["all_rows"], binary=True)).fetchall())
    return _with_executions(runbooks, await (await connection.execute(sql["all_executions"], binary=True)).fetchall())


async def save(connection: AsyncConnection[Any], changes: Mapping[Key, Change]) -> None:
    """Write what changed; meant to run inside a pipeline."""
    rows: dict[str, list[dict[str, object]]] = {
        name: [] for name in ("insert_rows", "update_rows", "update_versions", "insert_executions", "update_executions")
    }
    for key, change in changes.items():
        before, after = change.before, change.after
        if before is None:
            rows["insert_rows"].append(_version_row(key, after) | {"created_at": after.created_at} | _definition_row(after))
        elif before.definition is after.definition:
            rows["update_versions"].append(_version_row(key, after))
        else:
            rows["update_rows"].append(_version_row(key, after) | _definition_row(after))
        held_before = {} if before is None else before.executions
        for execution_id, execution in after.executions.items():
            if execution_id not in held_before:
                rows["insert_executions"].append(_progress_row(key, execution) | _request_row(execution))
            elif held_before[execution_id] is not execution:
                rows["update_executions"].append(_progress_row(key, execution))
    for name, written in rows.items():  # a runbook before its executions
        await write_rows(connection, statements("runbook")[name], written)


async def _read_executions(
    connection: AsyncConnection[Any], runbooks: Collection[Key], named: Sequence[tuple[str, str, UUID]]
) -> Sequence[Sequence[Any]]:
    columns = {
        "tenant_ids": [tenant for tenant, _ in runbooks],
        "runbook_ids": [runbook_id for _, runbook_id in runbooks],
        "named_tenant_ids": [tenant for tenant, _, _ in named],
        "named_runbook_ids": [runbook_id for _, runbook_id, _ in named],
        "execution_ids": [execution_id for _, _, execution_id in named],
    }
    return await (await connection.execute(statements("runbook")["executions"], columns, binary=True)).fetchall()


def _with_executions(runbooks: Mapping[Key, Runbook], rows: Sequence[Sequence[Any]]) -> dict[Key, Runbook]:
    executions: dict[Key, dict[str, Execution]] = defaultdict(dict)
    for tenant_id, runbook_id, *columns in rows:
        execution = _execution(columns)
        executions[tenant_id, runbook_id][execution.execution_id] = execution
    return {key: replace(runbook, executions=executions.get(key, {})) for key, runbook in runbooks.items()}


def _by_key(rows: Sequence[Sequence[Any]]) -> dict[Key, Runbook]:
    return {(row[0], row[1]): _runbook(row) for row in rows}


def _runbook(row: Sequence[Any]) -> Runbook:
    (_, _, version, created_at, updated_at, title, description, trigger_conditions, steps, automation_level, approval_required, owner,
     tags, definition_version) = row  # fmt: skip
    definition = Definition(
        title=title,
        description=description,
        trigger_conditions=tuple(trigger_conditions),
        steps=tuple(RunbookStep(**step) for step in steps),
        automation_level=automation_level,
        approval_required=approval_required,
        owner=owner,
        tags=tuple(tags),
    )
    return Runbook(version, created_at, updated_at, definition, definition_version, {})


def _execution(columns: Sequence[Any]) -> Execution:
    (execution_id, definition_version, status, requested_by, parameters, incident_id, reason, approval_deadline, run_within_seconds,
     run_deadline, decided_by, outcome, step_results, summary) = columns  # fmt: skip
    return Execution(
        execution_id=str(execution_id),
        definition_version=definition_version,
        status=status,
        requested_by=requested_by,
        parameters=parameters,
        incident_id=None if incident_id is None else str(incident_id),
        reason=reason,
        approval_deadline=approval_deadline,
        run_within_seconds=run_within_seconds,
        run_deadline=run_deadline,
        decided_by=decided_by,
        outcome=outcome,
        step_results=tuple(StepResult(**result) for result in step_results),
        summary=summary,
    )


def _version_row(key: Key, runbook: Runbook) -> dict[str, object]:
    return {"tenant_id": key[0], "runbook_id": key[1], "version": runbook.version, "updated_at": runbook.updated_at}


def _definition_row(runbook: Runbook) -> dict[str, object]:
    definition = runbook.definition
    return {
        "title": definition.title,
        "description": definition.description,
        "trigger_conditions": Jsonb(definition.trigger_conditions),
        "steps": Jsonb([asdict(step) for step in definition.steps]),
        "automation_level": definition.automation_level,
        "approval_required": definition.approval_required,
        "owner": definition.owner,
        "tags": Jsonb(definition.tags),
        "definition_version": runbook.definition_version,
    }


def _request_row(execution: Execution) -> dict[str, object]:
    return {
        "definition_version": execution.definition_version,
        "requested_by": execution.requested_by,
        "parameters": Jsonb(execution.parameters),
        "incident_id": None if execution.incident_id is None else UUID(execution.incident_id),
        "reason": execution.reason,
        "approval_deadline": execution.approval_deadline,
        "run_within_seconds": execution.run_within_seconds,
    }


def _progress_row(key: Key, execution: Execution) -> dict[str, object]:
    return {
        "tenant_id": key[0],
        "runbook_id": key[1],
        "execution_id": UUID(execution.execution_id),
        "status": execution.status,
        "run_deadline": execution.run_deadline,
        "decided_by": execution.decided_by,
        "outcome": execution.outcome,
        "step_results": Jsonb([asdict(result) for result in execution.step_results]),
        "summary": execution.summary,
    }
