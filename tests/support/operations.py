"""The nine operations of the contract, each called for what both tenants of tests/support/two_tenants.py have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tests.support.two_tenants import CLUSTER, ENVIRONMENT, ID
from worker.postgres.queries import (
    SreAlertQueryService,
    SreHealthQueryService,
    SreIncidentQueryService,
    SreRunbookQueryService,
    SreSLOQueryService,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import psycopg

    from worker.postgres.queries import Page

    Connection = psycopg.Connection[Any]

SERVICES: Final = {
    SreIncidentQueryService: ("get_incident", "list_open_incidents"),
    SreAlertQueryService: ("get_alert", "list_active_alerts"),
    SreRunbookQueryService: ("get_runbook", "list_runbooks"),
    SreSLOQueryService: ("get_slo", "list_slos"),
    SreHealthQueryService: ("get_current_fleet_state",),
}
GETS: Final[Mapping[str, Callable[..., object]]] = {
    "get_incident": lambda connection, tenant, key=ID, **wait: SreIncidentQueryService(connection).get_incident(tenant, key, **wait),
    "get_alert": lambda connection, tenant, key=ID, **wait: SreAlertQueryService(connection).get_alert(tenant, key, **wait),
    "get_runbook": lambda connection, tenant, key=ID, **wait: SreRunbookQueryService(connection).get_runbook(tenant, key, **wait),
    "get_slo": lambda connection, tenant, key=ID, **wait: SreSLOQueryService(connection).get_slo(tenant, key, **wait),
    "get_current_fleet_state": lambda connection, tenant, key=CLUSTER, **wait: SreHealthQueryService(connection).get_current_fleet_state(
        tenant, ENVIRONMENT, key, **wait
    ),
}
LISTS: Final[Mapping[str, Callable[[Connection, str, int, str | None], Page[Any]]]] = {
    "list_open_incidents": lambda connection, *arguments: SreIncidentQueryService(connection).list_open_incidents(*arguments),
    "list_active_alerts": lambda connection, tenant, *page: SreAlertQueryService(connection).list_active_alerts(tenant, None, *page),
    "list_active_alerts of one incident": lambda connection, tenant, *page: SreAlertQueryService(connection).list_active_alerts(
        tenant, ID, *page
    ),
    "list_runbooks": lambda connection, *arguments: SreRunbookQueryService(connection).list_runbooks(*arguments),
    "list_slos": lambda connection, *arguments: SreSLOQueryService(connection).list_slos(*arguments),
    "get_current_fleet_state of all clusters": lambda connection, tenant, *page: SreHealthQueryService(connection).get_current_fleet_state(
        tenant, ENVIRONMENT, None, *page
    ),
}
CALLS_IN_SQL: Final[Mapping[str, bytes]] = {
    "get_incident": b"sre_query.get_incident(%(tenant)s, %(id)s)",
    "list_open_incidents": b"sre_query.list_open_incidents(%(tenant)s)",
    "get_alert": b"sre_query.get_alert(%(tenant)s, %(id)s)",
    "list_active_alerts": b"sre_query.list_active_alerts(%(tenant)s)",
    "get_runbook": b"sre_query.get_runbook(%(tenant)s, %(id)s)",
    "list_runbooks": b"sre_query.list_runbooks(%(tenant)s)",
    "get_slo": b"sre_query.get_slo(%(tenant)s, %(id)s)",
    "list_slos": b"sre_query.list_slos(%(tenant)s)",
    "get_current_fleet_state": b"sre_query.get_current_fleet_state(%(tenant)s, 'production')",
}
