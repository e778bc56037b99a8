"""`sre-domain keys`: who may speak for a tenant. Only public keys go to the database."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import TYPE_CHECKING, Annotated, Any, Final

import psycopg
import typer
from psycopg import errors
from psycopg.rows import dict_row
from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.cli.times import parsed_time
from worker.client import aggregate_of
from worker.domain.aggregate import AGGREGATES
from worker.envelope import TYPE_PREFIX
from worker.errors import WorkerError
from worker.logs import only_errors_of_ours
from worker.postgres.named_sql import statements
from worker.postgres.schema_version import check_schema
from worker.printable import printable
from worker.settings import DatabaseSettings
from worker.signatures import Signer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CONNECT_SECONDS: Final = 5
_OWNER_ONLY: Final = 0o600
_WIDE: Final = 2000  # lines are the terminal's to wrap

_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_PRINCIPAL: Final = re.compile(r"[!-~]{1,200}")
_ACTOR: Final = re.compile(r"(?=.*\S)[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,200}")

app = typer.Typer(no_args_is_help=True)


class KeysError(WorkerError):
    """The keys can't be read or changed; everything is as it was."""


@app.callback()
def keys() -> None:
    """Keys that intents are signed with: make, list, revoke."""


@app.command()
def new(  # noqa: PLR0913, PLR0917 - options of a command
    file: Annotated[Path, typer.Argument(help="Takes the private key, for SRE_SIGNING_KEY_FILE; must not exist yet.")],
    tenant: Annotated[str, typer.Option(help="Whom the key's holder speaks for.")],
    principal: Annotated[str, typer.Option(help="Who the holder is, as facts will say: 1 to 200 printable ASCII characters, no space.")],
    intents: Annotated[list[str], typer.Option("--type", help="An intent that the holder may ask for, IngestAlert or so; repeat it.")],
    actor: Annotated[str | None, typer.Option(help="The only `actor` that the holder may be; else any.")] = None,
    days: Annotated[int, typer.Option(min=1, max=36_500, help="In force for so long from now.")] = 365,
    valid_until: Annotated[str | None, typer.Option(help="In force before this, RFC 3339; instead of --days.")] = None,
    valid_from: Annotated[
        str | None, typer.Option(help="In force from then on, RFC 3339; else for the 30 days before now, too: so old can an intent be.")
    ] = None,
) -> None:
    """Make a key pair: the private key goes into a file that only you can read, the public one into the database.

    Workers take it at once. Its times are held against an intent's ce_time.
    """
    only_errors_of_ours()
    _check(tenant, _TENANT, "--tenant", "must be letters, digits and ._- and at most 63 of them")
    _check(principal, _PRINCIPAL, "--principal", "must be 1 to 200 printable ASCII characters without a space")
    _check(actor, _ACTOR, "--actor", "must be 1 to 200 characters on one line, not blank")
    signer = Signer.generate()
    named = {
        "tenant_id": tenant,
        "public_key": signer.public_key,
        "principal": principal,
        "intents": _intent_names(intents),
        "actor": actor,
        "days": days,
        "valid_from": _time(valid_from, "--valid-from"),
        "valid_until": _time(valid_until, "--valid-until"),
    }
    dsn = DatabaseSettings.from_environment().migration_dsn
    _write_private(file, signer.pem())
    try:
        with _session(dsn) as connection:
            (row,) = connection.execute(statements("keys")["add_key"], named).fetchall()
    except BaseException:
        file.unlink()  # a private key without its public one is of no use
        raise
    typer.echo(f"made key {row['key_id']} of {tenant}, in force from {_shown(row['valid_from'])} until {_shown(row['valid_until'])}")
    typer.echo(f"its private key is in {printable(str(file))}")


@app.command("list")
def list_(tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None) -> None:
    """List the keys, the oldest first."""
    only_errors_of_ours()
    with _session(DatabaseSettings.from_environment().migration_dsn) as connection:
        rows = connection.execute(statements("keys")["list_keys"], {"tenant_id": tenant}).fetchall()
    table = Table("key", "state", "tenant", "principal", "actor", "in force from", "until", "may ask for", box=None, pad_edge=False)
    for row in rows:
        state = f"revoked {_shown(row['revoked_at'])}" if row["revoked_at"] is not None else row["state"]
        times = _shown(row["valid_from"]), _shown(row["valid_until"])
        types = ", ".join(name.removesuffix("Requested") for name in row["intents"])
        cells = (row["key_id"], state, row["tenant_id"], row["principal"], row["actor"] or "any", *times, types)
        table.add_row(*(Text(printable(cell), no_wrap=True) for cell in cells))
    Console(width=_WIDE).print(table)


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(help="As `list` shows it.")]) -> None:
    """Revoke a key for good. Within five seconds no worker takes what it signed, whenever that was."""
    only_errors_of_ours()
    with _session(DatabaseSettings.from_environment().migration_dsn) as connection:
        row = connection.execute(statements("keys")["revoke_key"], {"key_id": key_id}).fetchone()
    if row is None:
        raise KeysError(f"there is no key {printable(key_id)}: `sre-domain keys list` shows those there are")
    typer.echo(f"key {key_id} of {row['tenant_id']}, {row['principal']}, is revoked since {_shown(row['revoked_at'])}")


def _check(given: str | None, pattern: re.Pattern[str], option: str, rule: str) -> None:
    if given is not None and pattern.fullmatch(given) is None:
        raise typer.BadParameter(rule, param_hint=option)


def _intent_names(given: Sequence[str]) -> list[str]:
    """As on the wire, without namespace; IngestAlert, IngestAlertRequested and sre.core.v1.IngestAlertRequested are one."""
    names = [name.removeprefix(TYPE_PREFIX).removesuffix("Requested") + "Requested" for name in given]
    unknown = [one for one, name in zip(given, names, strict=True) if aggregate_of(name) is None]
    if unknown:
        known = sorted(name.removesuffix("Requested") for aggregate in AGGREGATES.values() for name in aggregate.intents)
        raise typer.BadParameter(f"{printable(', '.join(unknown))}: must be one of {', '.join(known)}", param_hint="--type")
    return list(dict.fromkeys(names))


def _time(text: str | None, option: str) -> datetime | None:
    return None if text is None else parsed_time(text, option)


def _shown(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _write_private(file: Path, pem: bytes) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
        with os.fdopen(descriptor, "wb") as out:
            out.write(pem)
    except FileExistsError:
        raise KeysError(f"{printable(str(file))} exists already: nothing was made") from None
    except OSError as error:
        raise KeysError(f"{printable(str(file))} can't be written: {error.strerror}") from None


@contextmanager
def _session(dsn: str) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    """One transaction, as a role that owns the schema or belongs to its owner. Raises KeysError."""
    try:
        with psycopg.connect(dsn, row_factory=dict_row, connect_timeout=_CONNECT_SECONDS, application_name="sre-domain keys") as connection:
            check_schema(connection)
            yield connection
    except (errors.UndefinedTable, errors.InsufficientPrivilege) as error:
        why = "run sre-domain migrate" if isinstance(error, errors.UndefinedTable) else "SRE_MIGRATE_DATABASE_URL must be its owner's"
        raise KeysError(f"the keys of this database are out of reach: {why}") from error
    except errors.CheckViolation as error:
        raise KeysError(f"that is no key: {error.diag.constraint_name} does not hold") from error
    except psycopg.Error as error:
        raise KeysError(f"the keys can't be read or changed: {' '.join(str(error).split())}") from error
