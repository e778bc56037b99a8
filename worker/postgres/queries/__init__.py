"""Reads of committed state, typed; each operation is one SQL function of schema sre_query."""

from worker.postgres.queries.reading import DEFAULT_PAGE_SIZE, Page, QueryError
from worker.postgres.queries.slo import SLOView, SreSLOQueryService

__all__ = ["DEFAULT_PAGE_SIZE", "Page", "QueryError", "SLOView", "SreSLOQueryService"]
