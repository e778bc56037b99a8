"""Hostile records into a real PostgreSQL, and hostile page tokens against its functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fuzz import kept_inputs
from tests.fuzz.targets import cursor, envelope
from tests.fuzz.targets.envelope import record_of
from tests.support.hostile import good, hostile_records, to_record
from tests.support.pipelines import process, query
from worker.topics import intents_topic

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

TOPIC = intents_topic("slo")


def test_rejections_of_hostile_records_are_written_one_each(database: str) -> None:
    records = [to_record(hostile, offset) for offset, hostile in enumerate([*hostile_records().values(), good(1)])]
    process(database, records)
    rows = query(database, 'SELECT "offset", code FROM inbox ORDER BY "offset"')
    assert [offset for offset, _ in rows] == list(range(len(records)))
    codes = [code for _, code in rows]
    assert "INTERNAL_ERROR" not in codes
    assert query(database, "SELECT count(*) FROM outbox WHERE aggregatetype = 'intent'") == [(len(codes) - codes.count(None),)]


def test_what_fuzzing_kept_of_records_is_written_one_each(database: str) -> None:
    kept = [record_of(data) for data in (*envelope.seeds(), *(file.read_bytes() for file in kept_inputs.kept_files("envelope")))]
    records = [record._replace(topic=TOPIC, offset=offset) for offset, record in enumerate(kept)]
    process(database, records)
    rows = query(database, 'SELECT "offset", code FROM inbox ORDER BY "offset"')
    assert {offset for offset, _ in rows} <= set(range(len(records)))
    assert "INTERNAL_ERROR" not in [code for _, code in rows]


@pytest.fixture
def reader(database: str) -> Iterator[psycopg.Connection[object]]:
    with cursor.rows_of_two_tenants(database) as connection:
        yield connection


def test_a_hostile_page_token_gets_a_page_of_ones_own_or_a_code(reader: psycopg.Connection[object]) -> None:
    for data in (*cursor.seeds(), *(file.read_bytes() for file in kept_inputs.kept_files("cursor"))):
        cursor.check_token(reader, data)
