"""Applies sql/migrations/NNNN_{pre,post}_name.sql in order: `pre` works under the old worker, `post` once it is gone.

Whoever connects, a superuser or a member of sre_owner, they run as sre_owner; only the roles are made as whoever connects.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from worker.errors import WorkerError
from worker.package_data import SQL
from worker.postgres.named_sql import statements

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Applied = tuple[int, str, str]  # number, name, checksum

MIGRATIONS = SQL / "migrations"
_ROLES = SQL / "roles.sql"
_FILE_NAME = re.compile(r"(\d{4})_(?:pre|post)_[a-z0-9_]+\.sql")
_PARTITION_DAYS_AHEAD = 7


class MigrationError(WorkerError):
    """The database was left as it was, or at the last migration that succeeded; the message says which file is to blame."""


@dataclass(frozen=True, slots=True)
class Migration:
    number: int
    name: str
    sql: bytes

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql).hexdigest()

    @property
    def is_post(self) -> bool:
        return self.name[4:].startswith("_post_")


def migrate(dsn: str, directory: Path = MIGRATIONS) -> tuple[str, ...]:
    """Bring the database up to date and return the names of the migrations that were applied; waits for another that is at it.

    Raises MigrationError: database out of reach, newer than these files, a file that was changed after it was applied, SQL that fails,
    roles that are missing and that this one can't make.
    """
    return _migrate(dsn, directory, _pending)


def expand(dsn: str, directory: Path = MIGRATIONS) -> tuple[str, ...]:
    """As migrate(), but stop in front of the first `post` migration: for while workers of the version before still run."""
    return _migrate(dsn, directory, lambda migrations, applied: _before_post(_pending(migrations, applied)))


def _migrate(
    dsn: str, directory: Path, choose: Callable[[Sequence[Migration], Sequence[Applied]], tuple[Migration, ...]]
) -> tuple[str, ...]:
    migrations = read_migrations(directory)
    sql = statements("migrate")
    try:
        with psycopg.connect(dsn, autocommit=True) as connection:
            _lock_as_owner(connection)
            connection.execute(sql["create_schema_migration"])
            pending = choose(migrations, connection.execute(sql["applied"]).fetchall())
            for migration in pending:
                _apply(connection, migration)
            connection.execute(sql["create_partitions"], {"days_ahead": _PARTITION_DAYS_AHEAD})
    except psycopg.Error as error:
        raise MigrationError(f"cannot migrate the database: {_one_line(error)}") from error
    return tuple(migration.name for migration in pending)


def read_migrations(directory: Path) -> tuple[Migration, ...]:
    """The migrations of a directory, in order. Raises MigrationError for a file name that is not one's, and for a number used twice."""
    migrations = []
    for file in sorted(directory.glob("*.sql")):
        match = _FILE_NAME.fullmatch(file.name)
        if match is None:
            raise MigrationError(f"{file.name} is not named NNNN_pre_name.sql or NNNN_post_name.sql")
        migrations.append(Migration(int(match[1]), file.stem, file.read_bytes()))
    for before, after in itertools.pairwise(migrations):
        if before.number == after.number:
            raise MigrationError(f"{before.name} and {after.name} have the same number")
    return tuple(migrations)


def _pending(migrations: Sequence[Migration], applied: Sequence[Applied]) -> tuple[Migration, ...]:
    known = {migration.number: migration for migration in migrations}
    for number, name, checksum in applied:
        if number not in known:
            raise MigrationError(f"the database is newer than this sre-domain, which does not know migration {name}")
        if known[number].checksum != checksum:
            raise MigrationError(f"migration {known[number].name} was changed after it was applied as {name}")
    newest = max((number for number, _, _ in applied), default=0)
    pending = tuple(migration for migration in migrations if migration.number not in {number for number, _, _ in applied})
    for migration in pending:
        if migration.number < newest:
            raise MigrationError(f"migration {migration.name} comes before {known[newest].name}, which was applied already")
    return pending


def _before_post(pending: tuple[Migration, ...]) -> tuple[Migration, ...]:
    return tuple(itertools.takewhile(lambda migration: not migration.is_post, pending))


def _lock_as_owner(connection: psycopg.Connection) -> None:
    try:
        connection.execute(statements("migrate")["lock"])
        connection.execute(_ROLES.read_bytes())
        connection.execute(statements("migrate")["act_as_owner"])
    except psycopg.errors.InsufficientPrivilege as error:
        what = f"have a superuser run {_ROLES.name} in this database, and migrate as a member of sre_owner"
        raise MigrationError(f"the roles are not as they must be ({_one_line(error)}): {what}") from error


def _apply(connection: psycopg.Connection, migration: Migration) -> None:
    try:
        with connection.transaction():
            connection.execute(migration.sql)  # without parameters, so it may hold many statements
            connection.execute(
                statements("migrate")["record"], {"number": migration.number, "name": migration.name, "checksum": migration.checksum}
            )
    except psycopg.Error as error:
        raise MigrationError(f"migration {migration.name} failed and was rolled back: {_one_line(error)}") from error


def _one_line(error: psycopg.Error) -> str:
    return error.diag.message_primary or " ".join(str(error).split())
