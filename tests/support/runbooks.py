"""A runbook's commands, with what a test does not care about filled in, and the ids of its executions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from worker.domain.ids import uid
from worker.domain.runbook import CreateRunbook, RunbookStep, UpdateRunbook
from worker.domain.runbook_execution import ExecuteRunbook

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
RUNBOOK_ID = "restart-checkout"
STEPS = (
    RunbookStep(step_id="look", title="Look at the dashboard", instruction="Is it latency?\nElse stop."),
    RunbookStep(step_id="restart", title="Restart", action="kubectl rollout restart deployment/checkout"),
)
DEFINITION: dict[str, Any] = {
    "title": "Restart checkout",
    "description": "For when it hangs",
    "trigger_conditions": ("latency p99 > 2 s",),
    "steps": STEPS,
    "automation_level": "assisted",
    "approval_required": True,
    "owner": "team-checkout",
    "tags": ("payments",),
    "actor": "ann",
}


def create(**changes: Any) -> CreateRunbook:  # noqa: ANN401
    return CreateRunbook(**DEFINITION | changes)


def update(**changes: Any) -> UpdateRunbook:  # noqa: ANN401
    return UpdateRunbook(**DEFINITION | changes)


def ask(**changes: Any) -> ExecuteRunbook:  # noqa: ANN401
    return ExecuteRunbook(**{"actor": "ann"} | changes)


def requested(version: int) -> str:
    """The id of the execution whose request took this version of acme's RUNBOOK_ID."""
    return str(uid("fact", "acme", "runbook", RUNBOOK_ID, str(version)))
