"""Runbooks as they are committed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from worker.domain.runbook import RunbookStep
from worker.domain.runbook_execution import Execution, StepResult
from worker.postgres.queries.reading import DEFAULT_PAGE_SIZE, DEFAULT_WAIT_SECONDS, Page, Row, read_one, read_page

if TYPE_CHECKING:
    import psycopg


@dataclass(frozen=True, slots=True, kw_only=True)
class RunbookView:
    """A runbook, times in UTC; `executions` are the unfinished ones by ascending id, None where they were not asked for, as in a list."""

    tenant_id: str
    runbook_id: str
    version: int
    created_at: datetime
    updated_at: datetime
    title: str
    description: str
    trigger_conditions: tuple[str, ...]
    steps: tuple[RunbookStep, ...]
    automation_level: str
    approval_required: bool
    owner: str
    tags: tuple[str, ...]
    definition_version: int
    executions: tuple[Execution, ...] | None


@dataclass(frozen=True, slots=True)
class SreRunbookQueryService:
    """On a connection of `connect_reader`. Raises QueryError, psycopg.OperationalError while PostgreSQL is away."""

    connection: psycopg.Connection[Any]

    def get_runbook(
        self, tenant: str, runbook_id: str, *, min_version: int | None = None, wait_seconds: float = DEFAULT_WAIT_SECONDS
    ) -> RunbookView | None:
        """The runbook with its unfinished executions."""
        return read_one(
            self.connection,
            "runbook_query",
            "get_runbook",
            _runbook,
            min_version=min_version,
            wait_seconds=wait_seconds,
            tenant=tenant,
            runbook_id=runbook_id,
        )

    def list_runbooks(self, tenant: str, page_size: int = DEFAULT_PAGE_SIZE, after: str | None = None) -> Page[RunbookView]:
        """A page by (created_at, runbook_id), without executions; what is written meanwhile moves no row from one page to another."""
        return read_page(self.connection, "runbook_query", "list_runbooks", _runbook, page_size, tenant=tenant, after=after)


def _runbook(row: Row) -> RunbookView:
    executions = row["executions"]
    return RunbookView(
        tenant_id=row["tenant_id"],
        runbook_id=row["runbook_id"],
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        title=row["title"],
        description=row["description"],
        trigger_conditions=tuple(row["trigger_conditions"]),
        steps=tuple(RunbookStep(**step) for step in row["steps"]),
        automation_level=row["automation_level"],
        approval_required=row["approval_required"],
        owner=row["owner"],
        tags=tuple(row["tags"]),
        definition_version=row["definition_version"],
        executions=None if executions is None else tuple(map(_execution, executions)),
    )


def _execution(fields: dict[str, Any]) -> Execution:
    decoded = {
        "approval_deadline": _time(fields["approval_deadline"]),
        "run_deadline": _time(fields["run_deadline"]),
        "step_results": tuple(StepResult(**result) for result in fields["step_results"]),
    }
    return Execution(**fields | decoded)


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)
