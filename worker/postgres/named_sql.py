"""Statements by name, out of sql/queries/<file>.sql: `-- name --`, a line of purpose, the statement."""

import re
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from worker.package_data import SQL

_NAME = re.compile(r"^-- (\w+) --$", re.MULTILINE)


@cache
def statements(file: str) -> Mapping[str, bytes]:
    """All statements of `sql/queries/<file>.sql`; bytes, since psycopg takes those for trusted text.

    Raises FileNotFoundError where the file is missing, ValueError where it names a statement twice.
    """
    parts = _NAME.split((SQL / "queries" / f"{file}.sql").read_text(encoding="utf-8"))[1:]
    names, bodies = parts[::2], parts[1::2]
    if len(set(names)) != len(names):
        raise ValueError(f"{file}.sql names a statement twice")
    return MappingProxyType({name: body.strip().encode() for name, body in zip(names, bodies, strict=True)})
