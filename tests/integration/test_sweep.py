"""The scheduled sweep: what it finds in a real PostgreSQL, and that its intents are one a runbook and minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest
import typer
from typer.testing import CliRunner

from tests.support.pipelines import outcomes, process, query
from tests.support.records import CODEC, NOW, Topic
from tests.support.roles import as_writer
from tests.support.runbooks import RUNBOOK_ID, ask, create, requested
from worker.cli import sweep as command
from worker.cli.sweep import SOURCE, SweepError, expiry, overdue_runbooks
from worker.client import Outgoing, to_outgoing
from worker.domain.ids import uid
from worker.domain.runbook_execution import ApproveRunbookExecution, CancelRunbookExecution
from worker.signatures import Signer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from worker.settings import Settings

TOPIC = "sre.runbook.intents.v1"
SECOND = timedelta(seconds=1)


def overdue(database: str, at: datetime) -> list[tuple[str, str]]:
    with psycopg.connect(as_writer(database)) as connection:
        return overdue_runbooks(connection, at)


def test_a_runbook_is_found_once_a_deadline_of_its_executions_has_passed(database: str) -> None:
    topic, key = Topic(TOPIC), RUNBOOK_ID
    soon = ask(approve_within_seconds=60, run_within_seconds=120)
    process(database, [topic.append(create(), key), *(topic.append(soon, key) for _ in range(4))])
    assert overdue(database, NOW + 60 * SECOND) == [], "the deadline itself is in time"
    assert overdue(database, NOW + 61 * SECOND) == [("acme", key)]
    process(database, [topic.append(CancelRunbookExecution(execution_id=requested(n), actor="ann"), key) for n in (2, 3, 4)])
    process(database, [topic.append(ApproveRunbookExecution(execution_id=requested(5), actor="bob"), key)])
    assert overdue(database, NOW + 120 * SECOND) == [], "approved in time, and runs until its own deadline"
    assert overdue(database, NOW + 121 * SECOND) == [("acme", key)]
    process(database, [topic.append(CancelRunbookExecution(execution_id=requested(5), actor="ann"), key)])
    assert overdue(database, NOW + timedelta(days=99)) == []


def test_each_runbook_of_every_tenant_is_found_once_and_in_order(database: str) -> None:
    topic = Topic(TOPIC)
    for tenant in ("zebra", "acme"):
        for key in ("two", "one", "none"):
            process(database, [topic.append(create(), key, tenant=tenant)])
        for key in ("two", "one"):
            process(database, [topic.append(ask(approve_within_seconds=60), key, tenant=tenant) for _ in range(3)])
    assert overdue(database, NOW + timedelta(hours=1)) == [("acme", "one"), ("acme", "two"), ("zebra", "one"), ("zebra", "two")]


def test_an_intent_of_the_sweep_is_named_by_tenant_runbook_and_minute() -> None:
    intent = expiry("acme", RUNBOOK_ID, NOW)
    assert intent.intent_id == str(uid("sweep", "acme", RUNBOOK_ID, "2026-03-09T12:00:00Z"))
    record = to_outgoing(intent, CODEC)
    assert (record.topic, record.key) == (TOPIC, RUNBOOK_ID.encode())
    headers = dict(record.headers)
    assert headers["ce_time"] == b"2026-03-09T12:00:00.000000Z"
    assert (headers["ce_source"], headers["ce_type"]) == (SOURCE.encode(), b"sre.core.v1.ExpireRunbookExecutionsRequested")
    assert to_outgoing(expiry("acme", RUNBOOK_ID, NOW), CODEC) == record
    others = [expiry("acme", RUNBOOK_ID, NOW + timedelta(minutes=1)), expiry("other", RUNBOOK_ID, NOW), expiry("acme", "another", NOW)]
    assert intent.intent_id not in {other.intent_id for other in others}


def test_swept_twice_in_a_minute_a_runbook_has_one_outcome_and_its_overdue_execution_one_end(database: str) -> None:
    topic, key = Topic(TOPIC), RUNBOOK_ID
    process(database, [topic.append(create(), key, time=NOW - timedelta(hours=1))])
    process(database, [topic.append(ask(approve_within_seconds=60), key, time=NOW - timedelta(hours=1)) for _ in range(2)])
    for _ in range(2):
        swept = to_outgoing(expiry("acme", key, NOW), CODEC)
        process(database, [topic.append_raw(swept.key, swept.value, swept.headers)])
    assert list(outcomes(database).values()) == ["facts"] * 4
    assert query(database, "SELECT status, count(*) FROM runbook_execution GROUP BY 1") == [("expired", 2)]
    assert overdue(database, NOW) == []


# --- The command


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Outgoing]:
    """What was published, in order; Kafka stands aside."""
    records: list[Outgoing] = []

    def publish(_: Settings, outgoing: Iterable[Outgoing]) -> int:
        published = list(outgoing)
        records.extend(published)
        return len(published)

    monkeypatch.setattr(command, "publish", publish)
    return records


def run(*options: str) -> tuple[str, BaseException | None]:
    app = typer.Typer()
    app.command()(command.sweep)
    result = CliRunner().invoke(app, options)
    return result.output, result.exception


def test_the_command_asks_for_what_is_overdue_now_and_says_how_many(
    database: str, sent: list[Outgoing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRE_DATABASE_URL", as_writer(database))
    monkeypatch.setenv("SRE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    assert run() == ("no runbook has overdue executions\n", None)
    with psycopg.connect(database, autocommit=True) as connection:
        for minutes, key in ((-2, "past"), (2, "to-come")):
            insert_pending(connection, key, datetime.now(UTC) + timedelta(minutes=minutes))
    assert run() == ("asked for the expiry of overdue executions on 1 runbook\n", None)
    assert [record.key for record in sent] == [b"past"]
    time = dict(sent[0].headers)["ce_time"].decode()
    assert time.endswith(":00.000000Z")
    minute = datetime.fromisoformat(time)
    assert timedelta() <= datetime.now(UTC) - minute < timedelta(minutes=2)
    assert dict(sent[0].headers)["ce_id"].decode() == str(uid("sweep", "acme", "past", f"{minute:%Y-%m-%dT%H:%M:00Z}"))


def test_one_tenant_s_runbooks_can_be_asked_alone_and_must_be_with_a_key(
    database: str, sent: list[Outgoing], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SRE_DATABASE_URL", as_writer(database))
    monkeypatch.setenv("SRE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    with psycopg.connect(database, autocommit=True) as connection:
        insert_pending(connection, "past", datetime.now(UTC) - timedelta(minutes=2))
    assert run("--tenant", "globex") == ("no runbook has overdue executions\n", None)
    assert run("--tenant", "acme") == ("asked for the expiry of overdue executions on 1 runbook\n", None)
    (tmp_path / "key.pem").write_bytes(Signer.generate().pem())
    monkeypatch.setenv("SRE_SIGNING_KEY_FILE", str(tmp_path / "key.pem"))
    assert "--tenant" in run()[0]
    assert run("--tenant", "acme") == ("asked for the expiry of overdue executions on 1 runbook\n", None)
    assert [record.key for record in sent] == [b"past"] * 2


def insert_pending(connection: psycopg.Connection, runbook_id: str, approval_deadline: datetime) -> None:
    connection.execute(
        "INSERT INTO runbook (tenant_id, runbook_id, version, created_at, updated_at, title, description, trigger_conditions, steps, "
        "automation_level, approval_required, owner, tags, definition_version) "
        "VALUES ('acme', %s, 2, now(), now(), 't', '', '[]', '[{}]', 'manual', true, 'o', '[]', 1)",
        [runbook_id],
    )
    connection.execute(
        "INSERT INTO runbook_execution (tenant_id, runbook_id, execution_id, definition_version, status, requested_by, parameters, reason, "
        "approval_deadline, run_within_seconds, step_results, summary) "
        "VALUES ('acme', %s, %s, 1, 'pending_approval', 'ann', '{}', '', %s, 60, '[]', '')",
        [runbook_id, uuid4(), approval_deadline],
    )


def test_a_database_out_of_reach_is_one_line_and_nothing_is_sent(sent: list[Outgoing], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SRE_DATABASE_URL", "postgresql://127.0.0.1:1/none")
    monkeypatch.setenv("SRE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    _, error = run()
    assert isinstance(error, SweepError)
    assert "\n" not in str(error)
    assert sent == []
