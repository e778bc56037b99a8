"""The audit of one tenant, which knows nothing of the others; two of them run at a time, in processes of their own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import psycopg
from psycopg.sql import SQL, Identifier, Literal

from tests.faults.harness.sorter import NOBODY, read_sorted
from worker.audit import Evidence, Outcome, breaches
from worker.codec import load_codec
from worker.postgres.named_sql import statements
from worker.postgres.storages import STORAGES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from worker.settings import Settings

_TABLES: Final = (
    *("inbox", "slo", "sli_ledger", "alert", "incident", "incident_timeline"),
    *("runbook", "runbook_execution", "healthcheck", "fleetstate"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What of everything is one tenant's. `outcomes` are those that name no tenant; `outbox_ids` are sixteen bytes each."""

    tenant: str
    intents: Path
    published: Path
    outcomes: Sequence[Outcome]
    outbox_ids: bytes


def audit(settings: Settings, partitions: Mapping[str, int], share: Share) -> list[str]:
    """Breaches of the contract's invariants."""
    outcomes, states = asyncio.run(_tables_of(settings, share.tenant))
    ids = [UUID(bytes=share.outbox_ids[start : start + 16]) for start in range(0, len(share.outbox_ids), 16)]
    intents, published = read_sorted(share.intents), read_sorted(share.published)
    return breaches(Evidence(intents, published, [*outcomes, *share.outcomes], ids, states, partitions), load_codec())


async def _tables_of(settings: Settings, tenant: str) -> tuple[list[Outcome], dict[Any, Any]]:
    """Outcomes and states of one tenant: views of that tenant's rows hide the tables from the audit's statements."""
    async with await psycopg.AsyncConnection.connect(settings.writer_dsn) as connection:
        await connection.execute("SET TIME ZONE 'UTC'")
        for table in _TABLES:
            view = SQL("CREATE TEMP VIEW {} AS SELECT * FROM public.{} WHERE tenant_id = {}")
            await connection.execute(view.format(Identifier(table), Identifier(table), Literal(tenant)))
        found = await (await connection.execute(statements("audit")["outcomes"])).fetchall()
        outcomes = [] if tenant == NOBODY else [Outcome(*row) for row in found]
        states = {(name, *key): state for name, storage in STORAGES.items() for key, state in (await storage.read_all(connection)).items()}
        await connection.rollback()
    return outcomes, states
