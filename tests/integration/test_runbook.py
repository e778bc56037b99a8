"""Runbooks through the pipeline and a real PostgreSQL: rows say what the facts say, batches read little, and the queries read it back."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.pipelines import assert_sound, process, query, stored
from tests.support.records import NOW, Topic
from tests.support.roles import as_reader
from tests.support.runbooks import RUNBOOK_ID, STEPS, ask, create, requested, update
from worker.domain.runbook_execution import (
    ApproveRunbookExecution,
    CancelRunbookExecution,
    Execution,
    ExpireRunbookExecutions,
    RecordRunbookExecutionResult,
    RejectRunbookExecution,
    StepResult,
)
from worker.postgres import runbook_rows
from worker.postgres.connection import SESSION, connect
from worker.postgres.named_sql import statements
from worker.postgres.queries.reading import QueryError, connect_reader
from worker.postgres.queries.runbook import RunbookView, SreRunbookQueryService

if TYPE_CHECKING:
    from datetime import datetime

    from worker.domain.runbook import Runbook

TOPIC = "sre.runbook.intents.v1"
SUBJECT = ("runbook", "acme", RUNBOOK_ID)
OTHER_ID = "restart-search"


def outcomes(database: str) -> list[str]:
    """The outcome, or the code, of each record in its order."""
    return [row[0] for row in query(database, 'SELECT coalesce(code, outcome) FROM inbox ORDER BY partition, "offset"')]


def test_an_execution_from_request_to_result_is_in_the_row_as_in_the_facts(database: str) -> None:
    topic, key = Topic(TOPIC), RUNBOOK_ID
    incident = "5f8d2c1e-6b1d-4f0f-8c64-0b8f6a3d2e10"
    asked = ask(
        parameters={"replicas": "3", "note": 'ünï "quoted" \\ \x01'}, incident_id=incident, reason="p99\nis high", run_within_seconds=90
    )
    results = (StepResult(step_id="look", status="succeeded", detail="yes\t1"), StepResult(step_id="restart", status="failed"))
    process(database, [topic.append(create(), key), topic.append(asked, key), topic.append(update(title="Newer", tags=()), key)])
    process(database, [topic.append(ApproveRunbookExecution(execution_id=requested(2), note="go", actor="bob"), key)])
    ended = RecordRunbookExecutionResult(execution_id=requested(2), outcome="failed", step_results=results, summary="no", actor="robot")
    process(database, [topic.append(ended, key)])
    assert outcomes(database) == ["facts"] * 5
    assert_sound(database)
    runbook = stored(database)[SUBJECT]
    assert (runbook.version, runbook.definition_version, runbook.definition.title) == (6, 3, "Newer")
    assert runbook.executions == {
        requested(2): Execution(
            execution_id=requested(2),
            definition_version=1,
            status="failed",
            requested_by="ann",
            parameters=asked.parameters,
            incident_id=incident,
            reason="p99\nis high",
            approval_deadline=NOW + timedelta(days=7),
            run_within_seconds=90,
            run_deadline=NOW + timedelta(seconds=90),
            decided_by="bob",
            outcome="failed",
            step_results=results,
            summary="no",
        )
    }
    facts = query(database, "SELECT type, id::text FROM outbox ORDER BY aggregate_version")
    assert [name.rpartition(".")[2] for name, _ in facts] == [
        "RunbookCreated",
        "RunbookExecutionRequested",
        "RunbookUpdated",
        "RunbookExecutionApproved",
        "RunbookExecutionStarted",
        "RunbookExecutionCompleted",
    ]
    assert facts[1][1] == requested(2), "the id of an execution is that of its request's fact"


def test_a_batch_tells_finished_executions_from_unknown_ones_and_reads_no_other(database: str) -> None:
    topic, key = Topic(TOPIC), RUNBOOK_ID
    process(database, [topic.append(create(), key), *(topic.append(ask(), key) for _ in range(4))])
    process(database, [topic.append(CancelRunbookExecution(execution_id=requested(n), actor="ann"), key) for n in (2, 3)])
    again = CancelRunbookExecution(execution_id=requested(2), actor="ann")
    unknown = replace(again, execution_id=requested(99))
    process(database, [topic.append(again, key), topic.append(unknown, key)])
    assert outcomes(database)[-2:] == ["EXECUTION_TERMINAL", "EXECUTION_NOT_FOUND"]

    async def locked() -> Runbook:
        connection = await connect(database)
        async with connection:
            return (await runbook_rows.lock(connection, {("acme", key): [again, unknown, ask()]}))["acme", key]

    whole = stored(database)[SUBJECT]
    assert len(whole.executions) == 4
    seen = {requested(n): whole.executions[requested(n)] for n in (2, 4, 5)}
    assert asyncio.run(locked()) == replace(whole, executions=seen)


def test_an_execution_of_another_runbook_or_tenant_is_not_found(database: str) -> None:
    topic = Topic(TOPIC)
    process(database, [topic.append(create(), key, tenant=tenant) for key in (RUNBOOK_ID, OTHER_ID) for tenant in ("acme", "other")])
    process(database, [topic.append(ask(), RUNBOOK_ID)])
    cancel = CancelRunbookExecution(execution_id=requested(2), actor="ann")
    elsewhere = [topic.append(cancel, OTHER_ID), topic.append(cancel, RUNBOOK_ID, tenant="other")]
    process(database, [*elsewhere, topic.append(cancel, RUNBOOK_ID)])
    assert outcomes(database)[-3:] == ["EXECUTION_NOT_FOUND", "EXECUTION_NOT_FOUND", "facts"]


def test_fifty_unfinished_executions_are_counted_across_batches(database: str) -> None:
    topic, key = Topic(TOPIC), RUNBOOK_ID
    process(database, [topic.append(create(), key), *(topic.append(ask(), key) for _ in range(30))])
    process(database, [topic.append(ask(), key) for _ in range(30)])
    assert outcomes(database)[-11:] == ["facts"] + ["LIMIT_EXCEEDED"] * 10


def test_only_what_changed_is_written(database: str) -> None:
    topic, key = Topic(TOPIC), RUNBOOK_ID
    process(database, [topic.append(create(), key), topic.append(ask(), key), topic.append(ask(), key)])
    before = dict(query(database, "SELECT execution_id::text, ctid::text FROM runbook_execution"))
    process(database, [topic.append(ApproveRunbookExecution(execution_id=requested(3), actor="bob"), key)])
    after = dict(query(database, "SELECT execution_id::text, ctid::text FROM runbook_execution"))
    assert after[requested(2)] == before[requested(2)]
    assert after[requested(3)] != before[requested(3)]


# --- Laws

ACTORS = st.sampled_from(["ann", "bob"])
IDS = st.integers(2, 12).map(requested)
COMMANDS = st.one_of(
    st.builds(create, approval_required=st.booleans()),
    st.builds(update, steps=st.sampled_from([STEPS, STEPS[::-1]]), approval_required=st.booleans()),
    st.builds(ask, actor=ACTORS, approve_within_seconds=st.integers(60, 300), run_within_seconds=st.integers(60, 300)),
    st.builds(ApproveRunbookExecution, execution_id=IDS, actor=ACTORS),
    st.builds(RejectRunbookExecution, execution_id=IDS, actor=ACTORS, reason=st.just("no")),
    st.builds(CancelRunbookExecution, execution_id=IDS, actor=ACTORS),
    st.builds(RecordRunbookExecutionResult, execution_id=IDS, outcome=st.sampled_from(["succeeded", "failed"]), actor=ACTORS),
    st.builds(ExpireRunbookExecutions),
)
ASKED = st.tuples(COMMANDS, st.sampled_from([RUNBOOK_ID, RUNBOOK_ID, OTHER_ID]), st.integers(-600, 0).map(lambda s: timedelta(seconds=s)))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(ASKED, min_size=1, max_size=12), min_size=1, max_size=5))
def test_folding_the_outbox_gives_the_rows_and_a_repeat_changes_nothing(
    database: str, history: list[list[tuple[object, str, timedelta]]]
) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("TRUNCATE inbox, outbox, runbook, runbook_execution, intake_position")
    topic = Topic(TOPIC)
    batches = [[topic.append(command, key, time=NOW + age) for command, key, age in batch] for batch in history]
    batches[0].insert(0, topic.append(create(), RUNBOOK_ID, time=NOW))
    process(database, *batches)
    assert_sound(database)
    rows = stored(database)
    assert len(outcomes(database)) == sum(map(len, batches))
    assert "INTERNAL_ERROR" not in outcomes(database)
    repeated = [topic.append_raw(record.key, record.value, record.headers) for batch in batches for record in batch]
    process(database, repeated)
    assert stored(database) == rows
    assert len(outcomes(database)) == sum(map(len, batches))


# --- Plans

ROWS = b"""
INSERT INTO runbook (tenant_id, runbook_id, version, created_at, updated_at, title, description, trigger_conditions, steps,
                     automation_level, approval_required, owner, tags, definition_version)
SELECT 'tenant-' || i % 10, 'runbook-' || i, 1, now(), now(), 't', '', '[]', '[{}]', 'manual', true, 'o', '[]', 1
FROM generate_series(1, 2000) AS i;
INSERT INTO runbook_execution (tenant_id, runbook_id, execution_id, definition_version, status, requested_by, parameters, reason,
                               approval_deadline, run_within_seconds, run_deadline, outcome, step_results, summary)
SELECT tenant_id, runbook_id, gen_random_uuid(), 1, status, 'ann', '{}', '', now(), 60, now(),
       CASE WHEN status = 'succeeded' THEN status END, '[]', ''
FROM runbook, generate_series(1, 20) AS i,
     LATERAL (SELECT CASE i WHEN 1 THEN 'running' WHEN 2 THEN 'pending_approval' ELSE 'succeeded' END AS status) AS given;
ANALYZE runbook, runbook_execution;
"""


@pytest.mark.parametrize(
    ("name", "indexes"),
    [
        ("lock_rows", ["runbook_pkey"]),
        ("executions", ["runbook_execution_unfinished", "runbook_execution_pkey"]),
        ("overdue", ["runbook_execution_by_approval_deadline", "runbook_execution_by_run_deadline"]),
    ],
)
def test_a_batch_and_the_sweep_find_their_rows_by_index(database: str, name: str, indexes: list[str]) -> None:
    numbers: dict[str, str] = {}

    def placeholder(match: re.Match[str]) -> str:
        return numbers.setdefault(match[1], f"${len(numbers) + 1}")

    statement = re.sub(r"%\((\w+)\)[sb]", placeholder, statements("runbook")[name].decode())
    with psycopg.connect(database) as connection:
        connection.execute(ROWS)
        if name == "overdue":  # the sweep's session is a plain one, and the function's owner reads
            ((body,),) = connection.execute("SELECT prosrc FROM pg_proc WHERE proname = 'overdue_runbooks'").fetchall()
            statement = re.sub(r"\bat\b", "$1::timestamptz", body)
        else:
            for setting in SESSION:
                connection.execute(setting)
        connection.execute("SET ROLE sre_owner" if name == "overdue" else "SET ROLE sre_writer")
        plan = "\n".join(row[0] for row in connection.execute(b"EXPLAIN (GENERIC_PLAN) " + statement.encode()).fetchall())
    assert "Seq Scan" not in plan, plan
    assert [index for index in indexes if index not in plan] == [], plan


# --- Queries


def test_a_runbook_is_read_with_its_unfinished_executions_and_listed_without(database: str) -> None:
    topic, key = Topic(TOPIC), RUNBOOK_ID
    asked = ask(parameters={"replicas": "3"}, reason="latency")
    process(database, [topic.append(create(), key), *(topic.append(asked, key) for _ in range(3))])
    process(database, [topic.append(CancelRunbookExecution(execution_id=requested(2), actor="ann"), key)])
    process(database, [topic.append(ApproveRunbookExecution(execution_id=requested(4), actor="bob"), key)])
    whole = stored(database)[SUBJECT]
    assert requested(4) < requested(3), "or the order of the rows would do"
    with connect_reader(as_reader(database)) as connection:
        connection.execute("SET TIME ZONE 'Asia/Kolkata'")
        service = SreRunbookQueryService(connection)
        view = service.get_runbook("acme", key)
        assert view == RunbookView(
            tenant_id="acme",
            runbook_id=key,
            version=7,
            created_at=NOW,
            updated_at=NOW,
            title=whole.definition.title,
            description=whole.definition.description,
            trigger_conditions=whole.definition.trigger_conditions,
            steps=STEPS,
            automation_level="assisted",
            approval_required=True,
            owner="team-checkout",
            tags=("payments",),
            definition_version=1,
            executions=tuple(whole.executions[name] for name in (requested(4), requested(3))),
        )
        assert service.list_runbooks("acme").items == (replace(view, executions=None),)
        assert service.get_runbook("other", key) is None
        assert service.get_runbook("acme", OTHER_ID) is None
        assert service.list_runbooks("other").items == ()
        process(database, [topic.append(create(), OTHER_ID)])
        without = service.get_runbook("acme", OTHER_ID)
        assert without is not None
        assert without.executions == ()


def test_pages_follow_creation_and_a_wrong_argument_has_its_code(database: str) -> None:
    topic = Topic(TOPIC)
    created: dict[str, datetime] = {f"runbook-{number}": NOW - timedelta(minutes=number // 2) for number in range(5)}
    process(database, [topic.append(create(), key, time=time) for key, time in created.items()])
    with connect_reader(as_reader(database)) as connection:
        service = SreRunbookQueryService(connection)
        pages = [service.list_runbooks("acme", 2)]
        while (following := pages[-1].next) is not None:
            pages.append(service.list_runbooks("acme", 2, following))
        assert [item.runbook_id for page in pages for item in page.items] == sorted(created, key=lambda key: (created[key], key))
        wrong: list[tuple[str, tuple[Any, ...]]] = [
            ("TENANT_REQUIRED", ("",)),
            ("PAGE_SIZE_INVALID", ("acme", 201)),
            ("PAGE_TOKEN_INVALID", ("other", 2, pages[0].next)),
        ]
        for code, arguments in wrong:
            with pytest.raises(QueryError, match=f"^{code}: "):
                service.list_runbooks(*arguments)
        with pytest.raises(QueryError, match=r"^TENANT_REQUIRED: "):
            service.get_runbook("", "runbook-1")
