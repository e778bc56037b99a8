"""`sre-domain query`: committed state as JSON. Status 1: not found; status 2: one line on stderr that begins with the code."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

import psycopg
import typer

from worker.domain.fields import format_rfc3339
from worker.errors import SettingsError
from worker.postgres.queries import (
    DEFAULT_PAGE_SIZE,
    DEFAULT_WAIT_SECONDS,
    QueryError,
    SreAlertQueryService,
    SreHealthQueryService,
    SreIncidentQueryService,
    SreRunbookQueryService,
    SreSLOQueryService,
    connect_reader,
)
from worker.printable import printable, printable_json
from worker.settings import DatabaseSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

NOT_FOUND: Final = 1
REFUSED: Final = 2

Tenant = Annotated[str, typer.Option(help="The tenant whose state is read; required.")]
Id = Annotated[str, typer.Argument(metavar="ID")]
PageSize = Annotated[int, typer.Option(help="1 to 200.")]
After = Annotated[str | None, typer.Option(help="The `next` of the page before.")]
MinVersion = Annotated[int | None, typer.Option(help="That version or a later one, else NOT_YET: a fact's, to see what it tells of.")]
WaitSeconds = Annotated[float, typer.Option(min=0, max=60, help="How long to wait for --min-version.")]

app = typer.Typer(no_args_is_help=True)


@app.callback()
def query() -> None:
    """Read committed state, as JSON; status 1 for an unknown id.

    A list is {"items": [...], "next": TOKEN}, oldest first; TOKEN is null at the end.
    """


@app.command("get-incident")
def get_incident(
    incident_id: Id, tenant: Tenant = "", min_version: MinVersion = None, wait_seconds: WaitSeconds = DEFAULT_WAIT_SECONDS
) -> None:
    """Print an incident with its timeline."""
    with _reading() as connection:
        incident = SreIncidentQueryService(connection).get_incident(tenant, incident_id, min_version=min_version, wait_seconds=wait_seconds)
        _print_found("INCIDENT", incident, incident_id, tenant)


@app.command("list-open-incidents")
def list_open_incidents(tenant: Tenant = "", page_size: PageSize = DEFAULT_PAGE_SIZE, after: After = None) -> None:
    """Print a page of the incidents that are not resolved or closed, without timelines."""
    with _reading() as connection:
        _print(SreIncidentQueryService(connection).list_open_incidents(tenant, page_size, after))


@app.command("get-alert")
def get_alert(alert_id: Id, tenant: Tenant = "", min_version: MinVersion = None, wait_seconds: WaitSeconds = DEFAULT_WAIT_SECONDS) -> None:
    """Print an alert."""
    with _reading() as connection:
        alert = SreAlertQueryService(connection).get_alert(tenant, alert_id, min_version=min_version, wait_seconds=wait_seconds)
        _print_found("ALERT", alert, alert_id, tenant)


@app.command("list-active-alerts")
def list_active_alerts(
    tenant: Tenant = "",
    incident: Annotated[str | None, typer.Option(help="Only those that are correlated to this incident.")] = None,
    page_size: PageSize = DEFAULT_PAGE_SIZE,
    after: After = None,
) -> None:
    """Print a page of the alerts that fire, acknowledged and silenced ones too."""
    with _reading() as connection:
        _print(SreAlertQueryService(connection).list_active_alerts(tenant, incident, page_size, after))


@app.command("get-runbook")
def get_runbook(
    runbook_id: Id, tenant: Tenant = "", min_version: MinVersion = None, wait_seconds: WaitSeconds = DEFAULT_WAIT_SECONDS
) -> None:
    """Print a runbook with its unfinished executions."""
    with _reading() as connection:
        runbook = SreRunbookQueryService(connection).get_runbook(tenant, runbook_id, min_version=min_version, wait_seconds=wait_seconds)
        _print_found("RUNBOOK", runbook, runbook_id, tenant)


@app.command("list-runbooks")
def list_runbooks(tenant: Tenant = "", page_size: PageSize = DEFAULT_PAGE_SIZE, after: After = None) -> None:
    """Print a page of runbooks, without executions."""
    with _reading() as connection:
        _print(SreRunbookQueryService(connection).list_runbooks(tenant, page_size, after))


@app.command("get-slo")
def get_slo(slo_id: Id, tenant: Tenant = "", min_version: MinVersion = None, wait_seconds: WaitSeconds = DEFAULT_WAIT_SECONDS) -> None:
    """Print an SLO's definition and error budget."""
    with _reading() as connection:
        slo = SreSLOQueryService(connection).get_slo(tenant, slo_id, min_version=min_version, wait_seconds=wait_seconds)
        _print_found("SLO", slo, slo_id, tenant)


@app.command("list-slos")
def list_slos(tenant: Tenant = "", page_size: PageSize = DEFAULT_PAGE_SIZE, after: After = None) -> None:
    """Print a page of SLOs."""
    with _reading() as connection:
        _print(SreSLOQueryService(connection).list_slos(tenant, page_size, after))


@app.command("get-current-fleet-state")
def get_current_fleet_state(
    environment: Annotated[str, typer.Argument(metavar="ENVIRONMENT")],
    tenant: Tenant = "",
    cluster: Annotated[str | None, typer.Option(help="Only this cluster.")] = None,
    page_size: PageSize = DEFAULT_PAGE_SIZE,
    after: After = None,
    min_version: MinVersion = None,
    wait_seconds: WaitSeconds = DEFAULT_WAIT_SECONDS,
) -> None:
    """Print the current snapshot of each of an environment's clusters, a page at a time; --min-version needs --cluster."""
    with _reading() as connection:
        service = SreHealthQueryService(connection)
        _print(
            service.get_current_fleet_state(
                tenant, environment, cluster, page_size, after, min_version=min_version, wait_seconds=wait_seconds
            )
        )


@contextmanager
def _reading() -> Iterator[psycopg.Connection[Any]]:
    with _one_line_errors(), connect_reader(DatabaseSettings.from_environment().reader_dsn) as connection:
        yield connection


def _print_found(aggregate: str, found: object | None, aggregate_id: str, tenant: str) -> None:
    if found is None:
        typer.echo(f"{aggregate}_NOT_FOUND: {aggregate_id!r} is no {aggregate.lower()} of tenant {tenant!r}", err=True)
        raise typer.Exit(NOT_FOUND)
    _print(found)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except QueryError as error:
        line = str(error)
    except SettingsError as error:
        line = f"SETTINGS_INVALID: {error}"
    except (psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName) as error:
        line = f"DATABASE_ERROR: the schema is of another version than this sre-domain: {error.diag.message_primary}"
    except psycopg.Error as error:
        line = f"DATABASE_ERROR: {str(error).partition(chr(10))[0]}"
    else:
        return
    typer.echo(printable(line), err=True)
    raise typer.Exit(REFUSED)


def _print(item: object) -> None:
    typer.echo(printable_json(_as_json(item)))


def _as_json(value: object) -> object:
    """Dataclasses as objects, percents as strings with six places, times as RFC 3339 in UTC."""
    if is_dataclass(value):
        return {field.name: _as_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Decimal):
        return f"{value:.6f}"
    return format_rfc3339(value) if isinstance(value, datetime) else value
