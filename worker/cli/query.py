"""`sre-domain query`: committed state as JSON. Status 1: not found; status 2: one line on stderr that begins with the code."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Final

import psycopg
import typer

from worker.domain.fields import format_rfc3339
from worker.errors import SettingsError
from worker.postgres.queries import DEFAULT_PAGE_SIZE, QueryError, SreSLOQueryService
from worker.settings import DatabaseSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

NOT_FOUND: Final = 1
REFUSED: Final = 2
_CONNECT_TIMEOUT_SECONDS: Final = 5

Tenant = Annotated[str, typer.Option(help="The tenant whose state is read; required.")]

app = typer.Typer(no_args_is_help=True)


@app.callback()
def query() -> None:
    """Read committed state, as JSON."""


@app.command("get-slo")
def get_slo(slo_id: Annotated[str, typer.Argument(metavar="ID")], tenant: Tenant = "") -> None:
    """Print an SLO's definition and error budget; status 1 where there is none of this id."""
    with _one_line_errors(), _connect() as connection:
        slo = SreSLOQueryService(connection).get_slo(tenant, slo_id)
    if slo is None:
        typer.echo(f"SLO_NOT_FOUND: no SLO {slo_id!r} in tenant {tenant!r}", err=True)
        raise typer.Exit(NOT_FOUND)
    _print(slo)


@app.command("list-slos")
def list_slos(
    tenant: Tenant = "",
    page_size: Annotated[int, typer.Option(help="1 to 200.")] = DEFAULT_PAGE_SIZE,
    after: Annotated[str | None, typer.Option(help="The `next` of the page before.")] = None,
) -> None:
    """Print a page of SLOs, oldest first: {"items": [...], "next": TOKEN}; `next` is null on the last page."""
    with _one_line_errors(), _connect() as connection:
        page = SreSLOQueryService(connection).list_slos(tenant, page_size, after)
    _print(page)


def _connect() -> psycopg.Connection[Any]:
    dsn = DatabaseSettings.from_environment().writer_dsn
    return psycopg.connect(dsn, autocommit=True, connect_timeout=_CONNECT_TIMEOUT_SECONDS, application_name="sre-domain query")


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except QueryError as error:
        line = str(error)
    except SettingsError as error:
        line = f"SETTINGS_INVALID: {error}"
    except psycopg.Error as error:
        line = f"DATABASE_ERROR: {str(error).partition(chr(10))[0]}"
    else:
        return
    typer.echo(line, err=True)
    raise typer.Exit(REFUSED)


def _print(item: object) -> None:
    typer.echo(json.dumps(_as_json(item), ensure_ascii=False))


def _as_json(value: object) -> object:
    """Dataclasses as objects, percents as strings with six places, times as RFC 3339 in UTC."""
    if is_dataclass(value):
        return {field.name: _as_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, Decimal):
        return f"{value:.6f}"
    return format_rfc3339(value) if isinstance(value, datetime) else value
