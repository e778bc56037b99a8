"""Where the slot is in the WAL, as PostgreSQL tells whoever asks."""

from __future__ import annotations

from typing import NamedTuple

from worker.postgres.named_sql import statements
from worker.postgres.scrape import rows


class SlotPosition(NamedTuple):
    """LSNs as numbers. `safe_wal_bytes` can still be written until the slot may be lost; None where there is no limit."""

    current_lsn: int
    confirmed_lsn: int
    restart_lsn: int
    safe_wal_bytes: int | None


def slot_position(dsn: str, slot: str) -> SlotPosition | None:
    """None where there is no such slot, or it is lost. Raises psycopg.Error."""
    found = rows(dsn, statements("relay")["slot_position"], {"slot": slot}, target_session_attrs="primary")
    return SlotPosition(*found[0]) if found else None
