"""The plans of what every batch asks: an index, never a scan of the table, also where a partition was empty when it was analysed."""

from __future__ import annotations

import re
from typing import LiteralString

import psycopg
import pytest

from worker.postgres.connection import SESSION
from worker.postgres.named_sql import statements

ROWS: LiteralString = """
INSERT INTO slo (tenant_id, slo_id, version, created_at, updated_at, name, description, owner, scope, target, "window", sli_good, sli_total,
                 budgeting_method, budget_status, current_budget_remaining, budget_consumed, counted_good, counted_total, counted_slices,
                 counted_bad_slices, counted_ratios)
SELECT 'tenant-' || i % 10, 'slo-' || i, 1, now(), now(), 'n', '', 'o', 's', 99, '30d', 'g', 't',
       'occurrences', 'no_data', 100, 0, 0, 0, 0, 0, 0
FROM generate_series(1, 20000) AS i;
INSERT INTO sli_ledger (tenant_id, slo_id, hour, slots, good, total, slices, bad_slices, ratios)
SELECT tenant_id, slo_id, date_trunc('hour', now(), 'UTC') - hour * interval '1 hour', decode(repeat('00', 1320), 'hex'), 0, 0, 0, 0, 0
FROM (SELECT * FROM slo LIMIT 500) AS few, generate_series(1, 40) AS hour;
INSERT INTO inbox (tenant_id, intent_key, intent_id, ce_time, content_hash, topic, partition, "offset", outcome)
SELECT 'acme', gen_random_uuid(), 'i-' || i, now() - i * interval '1 minute', '', 't', 0, i, 'no_change'
FROM generate_series(1, 40000) AS i;
ANALYZE slo, sli_ledger, inbox;
"""


@pytest.mark.parametrize(
    ("file", "name", "table"), [("slo", "lock_rows", "slo"), ("slo", "ledger_hours", "sli_ledger"), ("inbox", "outcomes_of", "inbox")]
)
def test_a_batch_finds_its_rows_by_index(database: str, file: str, name: str, table: str) -> None:
    numbers: dict[str, str] = {}

    def placeholder(match: re.Match[str]) -> str:
        return numbers.setdefault(match[1], f"${len(numbers) + 1}")

    statement = re.sub(r"%\((\w+)\)[sb]", placeholder, statements(file)[name].decode())
    with psycopg.connect(database) as connection:
        connection.execute(ROWS)
        for setting in SESSION:
            connection.execute(setting)
        connection.execute("SET ROLE sre_writer")
        explained = connection.execute(b"EXPLAIN (GENERIC_PLAN) " + statement.encode()).fetchall()
    plan = "\n".join(row[0] for row in explained)
    assert not re.search(rf"Seq Scan on {table}", plan), plan
    assert "Index" in plan, plan
