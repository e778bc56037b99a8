"""A worker that requires signatures, seen through topics: who may ask for what, and how soon a key is known, or is no more."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.support import runbooks
from tests.support.databases import own_database
from tests.support.kafka import empty_topics
from tests.support.records import CODEC, create
from tests.support.system import environment_of, running_system, wait_until
from worker.client import Intent, IntentPublisher, Outgoing, publish_as_is, to_outgoing
from worker.domain.aggregate import AGGREGATES, intent_name
from worker.domain.alert import AcknowledgeAlert, IngestAlert
from worker.domain.ids import uid
from worker.domain.runbook_execution import ApproveRunbookExecution
from worker.postgres.named_sql import statements
from worker.signatures import Signer
from worker.topics import topic_specs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.system import System

NOW = datetime.now(UTC)
ALERTS, AGENT, PERSON, OTHERS = (Signer.generate() for _ in range(4))


@pytest.fixture(scope="module")
def system(kafka: str, server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One worker and relay for all tests here, that require signatures; four keys are there before they start."""
    empty_topics(kafka, topic_specs(tuple(AGGREGATES)))
    with own_database(server, template) as database:
        install(database, ALERTS, "alertmanager", "IngestAlert")
        install(database, AGENT, "agent", "ExecuteRunbook", actor="agent")
        install(database, PERSON, "ann", "CreateSLO", "CreateRunbook", "ExecuteRunbook", "ApproveRunbookExecution", "AcknowledgeAlert")
        install(database, OTHERS, "eve", "IngestAlert", "CreateSLO", tenant="globex")
        with pytest.MonkeyPatch.context() as patch, running_system(kafka, database, tmp_path_factory.mktemp("signatures")) as running:
            patch.setenv("SRE_SIGNATURES", "require")
            running.start("worker")
            running.start("relay")
            yield running


def install(database: str, signer: Signer, principal: str, *intents: str, tenant: str = "acme", **changes: object) -> None:
    named = {
        "tenant_id": tenant,
        "public_key": signer.public_key,
        "principal": principal,
        "intents": [f"{name}Requested" for name in intents],
        "actor": None,
        "valid_from": None,
        "valid_until": None,
        "days": 1,
        **changes,
    }
    with psycopg.connect(database) as connection:
        connection.execute(statements("keys")["add_key"], named)


def revoke(system: System, signer: Signer) -> None:
    with psycopg.connect(system.settings.writer_dsn) as connection:
        connection.execute(statements("keys")["revoke_key"], {"key_id": signer.key_id})


def ask(command: object, aggregate_id: str, signer: Signer | None, *, tenant: str = "acme", **rest: Any) -> Outgoing:  # noqa: ANN401
    intent = Intent(intent_name(type(command)), tenant, aggregate_id, command, "/tests", **{"time": NOW, **rest})
    record = to_outgoing(intent, CODEC)
    return record if signer is None else replace(record, headers=signer.sign(record.headers, record.value))


def alert(number: int, signer: Signer | None, tenant: str = "acme") -> Outgoing:
    fingerprint = f"signed-{number}"
    command = IngestAlert(
        source="custom", fingerprint=fingerprint, name="Slow", severity="high", status="firing", labels={"a": "b"}, starts_at=NOW
    )
    return ask(command, str(uid("alert", tenant, "custom", fingerprint)), signer, tenant=tenant)


def id_of(record: Outgoing) -> str:
    return dict(record.headers)["ce_id"].decode()


def answers(system: System, *records: Outgoing, count: int | None = None) -> list[tuple[str, str | None]]:
    """Of each fact or rejection that these intents came to, in their order: its name or code, and its principal."""
    publish_as_is(system.settings, records)
    caused = [id_of(record) for record in records]

    def found() -> list[tuple[str, tuple[str, str | None]]]:
        told = []
        for message in list(system.seen):
            headers = {name: (value or b"").decode() for name, value in message.headers}
            if headers.get("ce_causationid") in caused:
                name = headers["ce_type"].rpartition(".")[2]
                code = CODEC.decode(name, message.value or b"")["code"] if name == "IntentRejected" else name
                told.append((headers["ce_causationid"], (code, headers.get("ce_principal"))))
        return told

    expected = len(records) if count is None else count
    wait_until(lambda: len(found()) >= expected, 60, lambda: f"{found()} {system.logs()}")
    return [told for caused_by in dict.fromkeys(caused) for cause, told in found() if cause == caused_by]


def test_an_alert_integration_ingests_alerts_and_nothing_else(system: System) -> None:
    ingested = alert(1, ALERTS)
    acknowledge = ask(AcknowledgeAlert(note="", actor="ann"), ingested.key.decode(), ALERTS)
    slo = ask(create(), "made-by-alertmanager", ALERTS)
    assert answers(system, ingested, acknowledge, slo) == [
        ("AlertIngested", "alertmanager"),
        ("NOT_AUTHORISED", "alertmanager"),
        ("NOT_AUTHORISED", "alertmanager"),
    ]


def test_an_agent_requests_an_execution_and_never_approves_one(system: System) -> None:
    key = "agents-runbook"
    assert answers(system, ask(runbooks.create(actor="ann"), key, PERSON)) == [("RunbookCreated", "ann")]
    as_ann = ask(replace(runbooks.ask(), actor="ann"), key, AGENT)
    requested = ask(replace(runbooks.ask(), actor="agent"), key, AGENT)
    assert answers(system, as_ann, requested) == [("NOT_AUTHORISED", "agent"), ("RunbookExecutionRequested", "agent")]
    execution = str(uid("fact", "acme", "runbook", key, "2"))
    approval = ApproveRunbookExecution(execution_id=execution, actor="agent")
    forged = [replace(approval, actor="ann"), approval]
    assert answers(system, *(ask(one, key, AGENT) for one in forged)) == [("NOT_AUTHORISED", "agent")] * 2
    approved = ask(replace(approval, actor="ann"), key, PERSON)
    assert answers(system, approved, count=2) == [("RunbookExecutionApproved", "ann"), ("RunbookExecutionStarted", "ann")]


def test_another_tenant_s_key_is_none_here_and_its_principal_is_not_told(system: System) -> None:
    assert answers(system, alert(2, OTHERS)) == [("TENANT_MISMATCH", None)]
    assert answers(system, alert(2, OTHERS, tenant="globex")) == [("AlertIngested", "eve")]


def test_unsigned_forged_unknown_and_expired_ones_are_refused_and_the_id_stays_free(system: System) -> None:
    expired = Signer.generate()
    ended = NOW - timedelta(seconds=1)
    install(system.settings.writer_dsn, expired, "expired", "IngestAlert", valid_until=ended)
    good = alert(3, ALERTS)
    tampered = replace(good, value=good.value[:-1] + bytes([good.value[-1] ^ 1]))
    unsigned = replace(good, headers=[header for header in good.headers if header[0] != "ce_signature"])
    stranger = replace(good, headers=Signer.generate().sign(good.headers, good.value))
    late = replace(good, headers=expired.sign(good.headers, good.value))
    told = answers(system, unsigned, tampered, stranger, late, good, count=5)
    assert sorted(told, key=str) == [
        ("AlertIngested", "alertmanager"),
        ("KEY_UNKNOWN", None),
        ("KEY_UNKNOWN", None),
        ("SIGNATURE_INVALID", None),
        ("SIGNATURE_REQUIRED", None),
    ]


def test_a_new_key_works_at_once_and_a_revoked_one_no_more_within_seconds(system: System) -> None:
    signer = Signer.generate()
    install(system.settings.writer_dsn, signer, "new", "IngestAlert")
    assert answers(system, alert(4, signer)) == [("AlertIngested", "new")]
    revoke(system, signer)
    time.sleep(5)  # the promise: nothing is taken after that
    assert answers(system, alert(5, signer)) == [("KEY_REVOKED", None)]


def test_what_publishers_send_is_signed_with_the_key_of_the_settings(system: System, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(PERSON.pem())
    settings = system.settings.model_copy(update={"signing_key_file": str(file)})
    intents = [Intent("CreateSLORequested", "acme", f"published-{number}", create(), "/tests", time=NOW) for number in range(2)]
    with IntentPublisher(settings, CODEC) as publisher:
        publisher.publish(intents[:1])
        asyncio.run(publisher.publish_async(intents[1:]))
    typed = {"type": "CreateSLO", "tenant": "acme", "key": "typed", "id": "typed", "data": json.loads(DEFINITION)}
    environment = {**os.environ, **environment_of(system.settings), "SRE_SIGNING_KEY_FILE": str(file)}
    command = [sys.executable, "-m", "worker", "publish", "-"]
    subprocess.run(command, input=json.dumps(typed).encode(), env=environment, check=True, capture_output=True)
    ids = [*(intent.intent_id for intent in intents), "typed"]

    def principals() -> list[str | None]:
        told = [dict(message.headers) for message in list(system.seen)]
        return [(one.get("ce_principal") or b"").decode() for one in told if (one.get("ce_causationid") or b"").decode() in ids]

    wait_until(lambda: len(principals()) >= 3, 60, system.logs)
    assert principals() == ["ann"] * 3


DEFINITION = """{
    "name": "Typed", "target": "99", "window": "7d", "owner": "team", "scope": "checkout", "actor": "ann",
    "sli_spec": {"good": "status < 500", "total": "all requests", "budgeting_method": "occurrences"}
}"""


def test_everything_that_was_answered_is_sound(system: System) -> None:
    system.wait_until_published()
    assert system.breaches() == []
