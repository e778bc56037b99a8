"""What is wrong with an intent is said before it is sent, in the worker's words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from tests.support.records import CODEC, NOW, create, window
from worker.client import Intent, IntentInvalidError, intent_id_of
from worker.domain.aggregate import AGGREGATES
from worker.domain.ids import uid
from worker.domain.slo import RecordSLIWindow
from worker.envelope import Record
from worker.intents import to_valid_outgoing
from worker.receiving import Fit, receive


def ask(command: object = None, **changes: Any) -> Intent:  # noqa: ANN401 - any field of an intent
    parts: dict[str, Any] = {
        "name": "RecordSLIWindowRequested",
        "tenant_id": "acme",
        "aggregate_id": "checkout",
        "command": command or window(3),
        "source": "/tests",
        "time": NOW,
    }
    return Intent(**{**parts, **changes})


def create_slo(**changes: object) -> Intent:
    return ask(create(**changes), name="CreateSLORequested")


@pytest.mark.parametrize(
    ("intent", "code", "field"),
    [
        (ask(tenant_id="ac me"), "TENANT_REQUIRED", "ce_tenantid"),
        (ask(tenant_id=""), "TENANT_REQUIRED", "ce_tenantid"),
        (ask(intent_id="two words"), "SCHEMA_INVALID", "ce_id"),
        (ask(intent_id="x" * 129), "SCHEMA_INVALID", "ce_id"),
        (ask(source="/a b"), "SCHEMA_INVALID", "ce_source"),
        (ask(aggregate_id="Checkout"), "SCHEMA_INVALID", "ce_subject"),
        (ask(aggregate_id=""), "SCHEMA_INVALID", "ce_subject"),
        (ask(aggregate_id="x" * 65), "LIMIT_EXCEEDED", "ce_subject"),
        (ask(time=NOW.replace(tzinfo=None)), "SCHEMA_INVALID", "ce_time"),
        (ask(name="RecordSLIWindow"), "UNKNOWN_INTENT", "ce_type"),
        (ask(window(3, good=101)), "SLI_COUNTS_INVALID", "good"),
        (ask(window(3, good=-1)), "SLI_COUNTS_INVALID", "good"),
        (create_slo(name=""), "SCHEMA_INVALID", "name"),
        (create_slo(name=3), "SCHEMA_INVALID", "name"),
        (create_slo(name="x" * 201), "LIMIT_EXCEEDED", "name"),
        (create_slo(target=Decimal(100)), "SLO_TARGET_OUT_OF_RANGE", "target"),
        (create_slo(window="8d"), "SLO_WINDOW_UNSUPPORTED", "window"),
        (create_slo(name="x" * 300_000), "MESSAGE_TOO_LARGE", "value"),
        (ask(name="CreateSLORequested"), "SCHEMA_INVALID", "owner"),
    ],
)
def test_an_intent_that_the_worker_would_refuse_is_refused_by_code_and_field(intent: Intent, code: str, field: str) -> None:
    with pytest.raises(IntentInvalidError) as caught:
        to_valid_outgoing(intent, CODEC)
    assert caught.value.rejection.code == code
    assert field in {violation.field for violation in caught.value.rejection.violations}
    assert intent.intent_id in str(caught.value)


def test_what_is_no_command_at_all_is_refused() -> None:
    with pytest.raises(IntentInvalidError) as caught:
        to_valid_outgoing(ask("a text"), CODEC)
    assert caught.value.rejection.code == "SCHEMA_INVALID"


def test_a_time_that_only_the_worker_s_clock_can_judge_is_sent() -> None:
    for time in (NOW - timedelta(days=400), NOW + timedelta(days=400)):
        minute = time.replace(second=0, microsecond=0)
        width = timedelta(minutes=1)
        command = RecordSLIWindow(start=minute - width, width_seconds=60, good=1, total=1)
        assert to_valid_outgoing(ask(command, time=time), CODEC)


def test_the_record_is_one_that_the_worker_takes_and_reads_back() -> None:
    intent = ask(intent_id=intent_id_of("/tests", "window/3"))
    outgoing = to_valid_outgoing(intent, CODEC)
    record = Record(outgoing.topic, 0, 0, 0, outgoing.key, outgoing.value, outgoing.headers)
    verdict = receive(record, AGGREGATES["slo"], CODEC, NOW, timedelta(days=30)).verdict
    assert isinstance(verdict, Fit)
    assert verdict.command == intent.command
    assert verdict.envelope.intent == ("acme", intent.intent_id)


def test_a_time_of_another_zone_goes_out_in_utc() -> None:
    berlin = timezone(timedelta(hours=1))
    outgoing = to_valid_outgoing(ask(time=datetime(2026, 3, 9, 13, 0, 0, 5, berlin)), CODEC)
    assert dict(outgoing.headers)["ce_time"] == b"2026-03-09T12:00:00.000005Z"


def test_the_same_key_has_the_same_id_and_another_source_or_key_has_not() -> None:
    given = intent_id_of("/integrations/a", "alert/1")
    assert given == intent_id_of("/integrations/a", "alert/1") == str(uid("intent", "/integrations/a", "alert/1"))
    assert len({given, intent_id_of("/integrations/a", "alert/2"), intent_id_of("/integrations/b", "alert/1")}) == 3


def test_an_intent_of_one_s_own_has_an_id_and_a_time_of_its_own() -> None:
    first, second = (Intent("RecordSLIWindowRequested", "acme", "checkout", window(3), "/tests") for _ in range(2))
    assert first.intent_id != second.intent_id
    assert abs(datetime.now(UTC) - first.time) < timedelta(minutes=1)
