"""`sre-domain sweep`: deadlines pass only when an intent says so, and this sends it. One shot, meant to be run every minute."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final

import psycopg
import typer

from worker.client import Intent, publish, to_outgoing
from worker.domain.aggregate import intent_name
from worker.domain.ids import uid
from worker.domain.runbook_execution import ExpireRunbookExecutions
from worker.errors import WorkerError
from worker.logs import only_errors_of_ours
from worker.postgres.named_sql import statements
from worker.postgres.schema_version import check_schema
from worker.registry import codec_of
from worker.settings import Settings

SOURCE: Final = "/sre-domain/sweep"
_CONNECT_TIMEOUT_SECONDS: Final = 5


class SweepError(WorkerError):
    """What is overdue could not be read; nothing was sent."""


def sweep(tenant: Annotated[str | None, typer.Option(help="Only this tenant's runbooks: a signing key is one tenant's.")] = None) -> None:
    """Ask for the expiry of overdue runbook executions, one intent a runbook. Once more in the same minute, it is the same intents."""
    only_errors_of_ours()
    settings = Settings.from_environment()
    codec = codec_of(settings)
    if settings.signing_key_file is not None and tenant is None:
        raise typer.BadParameter("is needed with SRE_SIGNING_KEY_FILE: run it for each tenant, with a key of each", param_hint="--tenant")
    minute = datetime.now(UTC).replace(second=0, microsecond=0)
    try:
        with psycopg.connect(
            settings.writer_dsn, connect_timeout=_CONNECT_TIMEOUT_SECONDS, application_name="sre-domain sweep"
        ) as connection:
            check_schema(connection)
            runbooks = [one for one in overdue_runbooks(connection, minute) if tenant in {None, one[0]}]
    except psycopg.Error as error:
        raise SweepError(f"the overdue executions can't be read: {' '.join(str(error).split())}") from None
    count = publish(settings, [to_outgoing(expiry(tenant_id, runbook_id, minute), codec) for tenant_id, runbook_id in runbooks])
    asked = f"asked for the expiry of overdue executions on {count} runbook{'' if count == 1 else 's'}"
    typer.echo(asked if count else "no runbook has overdue executions")


def overdue_runbooks(connection: psycopg.Connection[Any], at: datetime) -> list[tuple[str, str]]:
    """Tenant and id of each runbook with an execution that is overdue at that time, in their order."""
    return connection.execute(statements("runbook")["overdue"], {"at": at}).fetchall()


def expiry(tenant_id: str, runbook_id: str, minute: datetime) -> Intent:
    """The one intent of this minute; what is overdue is held against `minute`, its ce_time."""
    return Intent(
        name=intent_name(ExpireRunbookExecutions),
        tenant_id=tenant_id,
        aggregate_id=runbook_id,
        command=ExpireRunbookExecutions(),
        source=SOURCE,
        intent_id=str(uid("sweep", tenant_id, runbook_id, f"{minute:%Y-%m-%dT%H:%M:00Z}")),
        time=minute,
    )
