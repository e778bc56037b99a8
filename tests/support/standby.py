"""A standby that streams from a primary."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from worker.devstack import postgres
from worker.devstack.postgres import PostgresServer, start_postgres

if TYPE_CHECKING:
    from pathlib import Path

STANDBY_SLOT = "standby"  # physical, to be made on the primary before


def start_standby(directory: Path, primary: PostgresServer) -> PostgresServer:
    directory.mkdir()
    data = directory / "data"
    command = [str(postgres._binaries() / "pg_basebackup"), "--pgdata", str(data), "--dbname", primary.dsn, "--checkpoint=fast"]
    subprocess.run(command, check=True, capture_output=True)
    (data / "standby.signal").touch()
    if os.geteuid() == 0:
        for path in (data, *data.rglob("*")):
            shutil.chown(path, postgres._UNPRIVILEGED_USER)
    conninfo = f"host=127.0.0.1 port={primary.port} user=postgres dbname=postgres"
    return start_postgres(
        directory, changes={"primary_conninfo": conninfo, "primary_slot_name": STANDBY_SLOT, "hot_standby_feedback": "on"}
    )
