"""Intents about SLOs, of every kind of fate."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from tests.support.records import CODEC, create
from worker.client import Intent, Outgoing, to_outgoing
from worker.domain.aggregate import intent_name
from worker.domain.slo import RecordSLIWindow, UpdateSLO

if TYPE_CHECKING:
    from worker.domain.slo import Command

SLOS: Final = 40


def workload(count: int) -> tuple[list[Outgoing], int]:
    """Intents of every kind of fate, and how many outcomes they come to: one each, but for the repeats."""
    now = datetime.now(UTC)
    first = now.replace(minute=0, second=0, microsecond=0) - timedelta(days=3)
    records: list[Outgoing] = []
    valid: list[Outgoing] = []
    updates: list[Outgoing] = []
    repeats = 0

    def add(command: Command, slo_id: str) -> None:
        intent = Intent(intent_name(type(command)), "acme", slo_id, command, "/tests", time=now, intent_id=f"intent-{len(records)}")
        valid.append(to_outgoing(intent, CODEC))
        records.append(valid[-1])

    for number in range(SLOS):
        add(create(), f"slo-{number}")
    number = 0
    while len(records) < count:
        minute, slo = divmod(number, SLOS)
        slo_id = f"slo-{slo}"
        number += 1
        if number % 97 == 0:  # each to a target of its own and few SLOs in turn, so that deciding an old one again shows
            definition = {name: getattr(create(), name) for name in UpdateSLO.__dataclass_fields__ if name != "expected_version"}
            add(UpdateSLO(**{**definition, "target": Decimal(98) + Decimal(number).scaleb(-6)}), f"slo-{number // 97 % 4}")
            updates.append(valid[-1])
        elif number % 101 == 0:
            records.append(replace(valid[-1], value=b"garbage"))  # its id was used by the one before
        elif number % 89 == 0:
            add(RecordSLIWindow(start=first, width_seconds=90, good=1, total=1), slo_id)
        add(RecordSLIWindow(start=first + timedelta(minutes=minute), width_seconds=60, good=98 + minute % 3, total=100), slo_id)
        if number % 50 == 0 and updates:  # of the one before, and of one long before
            records += [valid[-1], updates[len(updates) // 2]]
            repeats += 2
    return records, len(records) - repeats
