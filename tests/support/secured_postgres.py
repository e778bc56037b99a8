"""A PostgreSQL that speaks TLS or not at all, and lets in whoever knows a SCRAM password.

The embedded one is built without TLS, so this one's programs are fetched by Maven, as Kafka's are.
"""

from __future__ import annotations

import os
import platform
import shutil
import tarfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier, Literal

from tests.support.system import wait_until
from worker.devstack.apache_kafka import MissingToolError
from worker.devstack.files import cache_directory, make_once
from worker.devstack.postgres import start_postgres, stop_postgres
from worker.devstack.processes import LOOPBACK, run
from worker.postgres.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.support.certificates import Authority

_VERSION = "18.0.0"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64v8", "arm64": "arm64v8"}
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
# By login: the role that it is a member of, and the attributes that don't come with a membership.
LOGINS: Mapping[str, tuple[str, SQL]] = {
    "owner": ("sre_owner", SQL("")),
    "writer": ("sre_writer", SQL("")),
    "relay": ("sre_relay", SQL(" REPLICATION BYPASSRLS")),
    "reader": ("sre_reader", SQL("")),
}


def password_of(login: str) -> str:
    return f"TOPSECRET-{login}-password"


@dataclass(frozen=True, slots=True)
class SecuredPostgres:
    """A migrated server whose certificate names 127.0.0.1 alone."""

    port: int
    ca: Path

    def dsn(self, login: str, **changes: str) -> str:
        parts = {
            "host": LOOPBACK,
            "port": str(self.port),
            "dbname": "postgres",
            "user": login,
            "password": password_of(login),
            "sslmode": "verify-full",
            "sslrootcert": str(self.ca),
            "channel_binding": "require",
        }
        return make_conninfo(**{**parts, **changes})

    def environment(self) -> dict[str, str]:
        """The variables of all processes."""
        return {
            "SRE_DATABASE_URL": self.dsn("writer"),
            "SRE_MIGRATE_DATABASE_URL": self.dsn("owner"),
            "SRE_RELAY_DATABASE_URL": self.dsn("relay"),
            "SRE_QUERY_DATABASE_URL": self.dsn("reader"),
        }


@contextmanager
def secured_postgres(directory: Path, authority: Authority) -> Iterator[SecuredPostgres]:
    server = start_postgres(directory, binaries=_programs())
    try:
        migrate(server.dsn)
        secured = SecuredPostgres(server.port, authority.ca)
        data = server.directory / "data"
        certificate, key = authority.issue("postgres", LOOPBACK)
        for source, name in ((certificate, "server.crt"), (key, "server.key")):
            target = data / name
            shutil.copyfile(source, target)
            os.chown(target, data.stat().st_uid, data.stat().st_gid)
            target.chmod(0o600)
        with psycopg.connect(server.dsn, autocommit=True) as admin:
            for login, (role, attributes) in LOGINS.items():
                made = SQL("CREATE ROLE {} LOGIN PASSWORD {}{} IN ROLE {}")
                admin.execute(made.format(Identifier(login), Literal(password_of(login)), attributes, Identifier(role)))
            admin.execute("ALTER SYSTEM SET ssl = on")
            (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
            admin.execute("SELECT pg_reload_conf()")
        _wait_until_secured(secured)
        yield secured
    finally:
        stop_postgres(server)


def _programs() -> Path:
    """Where those that were built with OpenSSL are. Without Maven the test is skipped, and fails where CI is set."""
    kind = f"{platform.system().lower()}-{_ARCHITECTURES.get(platform.machine(), platform.machine())}"
    cache = cache_directory() if os.geteuid() else Path("/var/cache/sre-domain")  # root's server runs as one who can't enter /root
    return make_once(cache / f"postgres-{_VERSION}-{kind}", partial(_fetch_into, kind)) / "bin"


def _fetch_into(kind: str, empty: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        if os.environ.get("CI"):
            raise MissingToolError("a PostgreSQL with TLS is fetched by Maven: no `mvn` on the PATH")
        pytest.skip("a PostgreSQL with TLS is fetched by Maven: no `mvn` on the PATH")
    artifact = f"io.zonky.test.postgres:embedded-postgres-binaries-{kind}:{_VERSION}"
    options = ["--batch-mode", "--quiet", "-Dstyle.color=never", f"-Dartifact={artifact}", f"-DoutputDirectory={empty}"]
    run("fetching PostgreSQL with Maven", [maven, *options, _COPY], empty.with_name("maven.log"))
    (jar,) = empty.glob("*.jar")
    with zipfile.ZipFile(jar) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".txz"))
        with tarfile.open(fileobj=BytesIO(archive.read(name))) as programs:
            programs.extractall(empty, filter="data")
    jar.unlink()
    empty.chmod(0o755)


def _wait_until_secured(secured: SecuredPostgres) -> None:
    why = "no attempt was made"

    def lets_us_in() -> bool:
        nonlocal why
        try:
            psycopg.connect(secured.dsn("writer")).close()
        except psycopg.OperationalError as error:
            why = str(error)
            return False
        return True

    wait_until(lets_us_in, 20, lambda: f"the server does not take TLS and a password: {why}")
