"""Reads of committed state, typed; each operation is one SQL function of schema sre_query."""

from worker.postgres.queries.alert import AlertView, SreAlertQueryService
from worker.postgres.queries.health import FleetStateView, SreHealthQueryService
from worker.postgres.queries.incident import IncidentView, SreIncidentQueryService
from worker.postgres.queries.reading import DEFAULT_PAGE_SIZE, DEFAULT_WAIT_SECONDS, Page, QueryError, connect_reader
from worker.postgres.queries.runbook import RunbookView, SreRunbookQueryService
from worker.postgres.queries.slo import SLOView, SreSLOQueryService

__all__ = [
    "DEFAULT_PAGE_SIZE",
    "DEFAULT_WAIT_SECONDS",
    "AlertView",
    "FleetStateView",
    "IncidentView",
    "Page",
    "QueryError",
    "RunbookView",
    "SLOView",
    "SreAlertQueryService",
    "SreHealthQueryService",
    "SreIncidentQueryService",
    "SreRunbookQueryService",
    "SreSLOQueryService",
    "connect_reader",
]
