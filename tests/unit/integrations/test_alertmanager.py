"""Alertmanager's notifications as intents, and what the system of record makes of them: real bodies, broken ones, and orders of arrival."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.records import CODEC
from tests.support.webhook import LABELS, LEFT_OUT, NO_TIME, firing, many, resolved, webhook
from worker.client import to_outgoing
from worker.domain import alert
from worker.domain.aggregate import ALERT
from worker.domain.fingerprint import fingerprint_of
from worker.domain.outcome import Context, NoChange
from worker.domain.rejection import Rejection
from worker.envelope import Record, open_envelope
from worker.integrations.alertmanager import LARGEST_ALERT_BYTES, SEVERITIES, Notification, WebhookInvalidError, read_notification
from worker.receiving import Fit, judge

BODIES = Path(__file__).parent / "data" / "alertmanager"
NOON = datetime(2026, 3, 9, 12, tzinfo=UTC)
RETENTION = timedelta(days=30)
NAMELESS = "alerts[1]: has neither a fingerprint nor a label, so nothing says which alert it is"


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def read(*alerts: object, at: datetime = NOON, **changes: object) -> Notification:
    return read_notification(webhook(*alerts, **changes), "acme", at)


class SystemOfRecord:
    """What the worker does with intents, by its own functions: each id is decided once."""

    def __init__(self) -> None:
        self.alerts: dict[str, alert.Alert | None] = {}
        self.contents: dict[str, object] = {}

    def take(self, notification: Notification, at: datetime = NOON) -> list[str]:
        """A word for each intent: `repeat`, `no change`, the code of its refusal, or the status and episode that it led to."""
        words = []
        for intent in notification.intents:
            outgoing = to_outgoing(intent, CODEC)
            content = self.contents.setdefault(intent.intent_id, outgoing)
            if content is not outgoing:
                assert content == outgoing  # else it would be IDEMPOTENCY_KEY_REUSED
                words.append("repeat")
                continue
            record = Record(outgoing.topic, 0, 0, 0, outgoing.key, outgoing.value, outgoing.headers)
            envelope = open_envelope(record)
            if isinstance(envelope, Rejection):
                words.append(envelope.code)
                continue
            verdict = judge(record, envelope, ALERT, CODEC, at, RETENTION)
            words.append(self._decide(verdict.command, verdict.context) if isinstance(verdict, Fit) else verdict.rejection.code)
        return words

    def _decide(self, command: alert.IngestAlert, context: Context) -> str:
        state = self.alerts.get(context.aggregate_id)
        outcome = alert.decide(state, command, context)
        if isinstance(outcome, Rejection):
            return outcome.code
        if isinstance(outcome, NoChange):
            return "no change"
        (fact,) = outcome
        state = self.alerts[context.aggregate_id] = alert.evolve(state, fact, context)
        return f"{state.status} {state.episode}"


def story(*notifications: tuple[datetime, dict[str, Any]]) -> tuple[list[str], alert.Alert]:
    """What became of an alert's notifications, by the times at which they came, and how it stands at the end."""
    system = SystemOfRecord()
    words = [word for at, sent in notifications for word in system.take(read(sent, at=at), at)]
    (last,) = system.alerts.values()
    assert last is not None
    return words, last


@pytest.mark.parametrize(
    ("file", "outcomes"),
    [
        ("cloudeon-cpu-3alerts-firing", ["firing 1", "firing 1", "firing 1"]),
        ("cloudeon-grafana-down-resolved", ["resolved 1"]),
        ("zulip-cpu-temp-2alerts-same-labels", ["firing 1", "FINGERPRINT_MISMATCH"]),
        ("alerta-v4-no-fingerprint", ["firing 1"]),
        ("alertmanager-0.25-1-firing", ["firing 1", "firing 1", "firing 1"]),
        ("alertmanager-0.25-3-resolved", ["resolved 1", "resolved 1", "resolved 1"]),
    ],
)
def test_a_real_body_is_ingested(file: str, outcomes: list[str]) -> None:
    at = datetime(2026, 11, 24, 12, tzinfo=UTC)
    notification = read_notification((BODIES / f"{file}.json").read_bytes(), "acme", at)
    assert SystemOfRecord().take(notification, at) == outcomes


@pytest.mark.parametrize("file", ["alerta-v3-integer-groupkey", "prometheus_bot-emptyValue"])
def test_a_real_body_of_version_3_is_refused(file: str) -> None:
    with pytest.raises(WebhookInvalidError, match=r"^version: Input should be '4'$"):
        read_notification((BODIES / f"{file}.json").read_bytes(), "acme", NOON)


def test_a_group_of_the_real_alertmanager_fires_repeats_and_resolves() -> None:
    system, at = SystemOfRecord(), datetime(2026, 11, 24, 12, tzinfo=UTC)
    fired, repeated, ended = (
        read_notification((BODIES / f"alertmanager-0.25-{name}.json").read_bytes(), "acme", at)
        for name in ("1-firing", "2-repeat", "3-resolved")
    )
    assert [len(fired.intents), fired.truncated, fired.group_key] == [3, 2, '{}:{alertname="DiskRunningFull"}']
    assert system.take(fired, at) == ["firing 1"] * 3
    assert system.take(repeated, at) == ["repeat"] * 3
    assert system.take(ended, at) == ["resolved 1"] * 3
    assert system.take(ended, at) == ["repeat"] * 3


def test_an_alert_becomes_a_command_with_its_own_words() -> None:
    (intent,) = read(firing(NOON)).intents
    fingerprint = fingerprint_of(LABELS)
    assert intent.command == alert.IngestAlert(
        source="prometheus",
        fingerprint=fingerprint,
        name="HighErrorRate",
        severity="critical",
        status="firing",
        labels=LABELS,
        annotations={"summary": "many errors"},
        starts_at=NOON,
    )
    assert (intent.name, intent.tenant_id, intent.source) == ("IngestAlertRequested", "acme", "/integrations/alertmanager")
    assert intent.aggregate_id == alert.alert_id_of("acme", "prometheus", fingerprint)


@pytest.mark.parametrize(
    ("label", "severity"), [*SEVERITIES.items(), ("Warning", "medium"), ("CRITICAL", "critical"), ("exception", "medium"), ("", "medium")]
)
def test_a_severity_is_one_of_four(label: str, severity: str) -> None:
    (intent,) = read(firing(NOON, labels=LABELS | {"severity": label})).intents
    assert isinstance(intent.command, alert.IngestAlert)
    assert intent.command.severity == severity


def test_an_alert_without_a_name_has_its_fingerprint_as_its_name() -> None:
    (intent,) = read(firing(NOON, labels={"service": "checkout"}, fingerprint=LEFT_OUT)).intents
    assert isinstance(intent.command, alert.IngestAlert)
    assert intent.command.name == intent.command.fingerprint == fingerprint_of({"service": "checkout"})


@pytest.mark.parametrize("fingerprint", [LEFT_OUT, None, ""])
def test_a_missing_fingerprint_is_computed(fingerprint: object) -> None:
    labels = LABELS | {"pod": ""}
    (intent,) = read(firing(NOON, labels=labels, fingerprint=fingerprint)).intents
    assert intent == read(firing(NOON)).intents[0]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"fingerprint": "0000000000000000"}, "FINGERPRINT_MISMATCH"),
        ({"fingerprint": "  "}, "FINGERPRINT_REQUIRED"),
        ({"fingerprint": "a fingerprint"}, "SCHEMA_INVALID"),
        ({"labels": LEFT_OUT}, "ALERT_LABELS_EMPTY"),
        ({"labels": {"alertname": ""}}, "ALERT_LABELS_EMPTY"),
        ({"status": LEFT_OUT}, "ALERT_STATUS_INVALID"),
        ({"status": "suppressed"}, "ALERT_STATUS_INVALID"),
        ({"startsAt": LEFT_OUT}, "ALERT_TIME_RANGE_INVALID"),
        ({"startsAt": NO_TIME}, "ALERT_TIME_RANGE_INVALID"),
        ({"status": "resolved", "endsAt": "2026-03-09T11:00:00Z"}, "ALERT_TIME_RANGE_INVALID"),
        ({"startsAt": "2026-03-09T13:00:00Z"}, "TIMESTAMP_IN_FUTURE"),
        ({"labels": LABELS | {"alertname": "x" * 201}, "fingerprint": LEFT_OUT}, "LIMIT_EXCEEDED"),
        ({"annotations": {f"a{number}": "b" for number in range(65)}}, "LIMIT_EXCEEDED"),
        ({"annotations": {"summary": "\0"}}, "SCHEMA_INVALID"),
        ({"annotations": {"summary": "x" * 300_000}}, "MESSAGE_TOO_LARGE"),
    ],
)
def test_what_the_worker_refuses_is_asked_all_the_same_so_that_the_refusal_is_on_record(changes: dict[str, object], code: str) -> None:
    neighbour = firing(NOON, labels={"service": "payments"}, fingerprint=LEFT_OUT)
    assert SystemOfRecord().take(read(firing(NOON, **changes), neighbour)) == [code, "firing 1"]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"labels": {}, "fingerprint": ""}, "alerts[1]: has neither a fingerprint nor a label, so nothing says which alert it is"),
        (
            {"labels": {"pod": ""}, "fingerprint": LEFT_OUT},
            "alerts[1]: has neither a fingerprint nor a label, so nothing says which alert it is",
        ),
        ({"startsAt": "yesterday"}, "alerts[1].startsAt: must be an RFC 3339 time"),
        ({"startsAt": 1_773_000_000}, "alerts[1].startsAt: must be an RFC 3339 time"),
        ({"endsAt": "2026-02-30T00:00:00Z"}, "alerts[1].endsAt: must be an RFC 3339 time"),
        ({"labels": {"alertname": 3}}, "alerts[1].labels: alertname must be text"),
        ({"annotations": ["summary"]}, "alerts[1].annotations: Input should be an object"),
        ({"fingerprint": 17}, "alerts[1].fingerprint: Input should be a valid string"),
        ({"annotations": {"log": "x" * LARGEST_ALERT_BYTES}}, "alerts[1]: is larger than a Kafka record may be: 900335 bytes"),
    ],
)
def test_an_alert_that_no_intent_can_say_is_named_and_nothing_is_taken(broken: dict[str, object], reason: str) -> None:
    with pytest.raises(WebhookInvalidError) as refusal:
        read(firing(NOON), firing(NOON, **broken), firing(NOON))
    assert str(refusal.value) == reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "Invalid JSON: EOF while parsing a value at line 1 column 0"),
        (webhook(firing(NOON))[:-20], "Invalid JSON: EOF while parsing a string at line 1 column 376"),
        (b"\xff\xfe", "Invalid JSON: expected value at line 1 column 1"),
        (b"[" * 100_000, "Invalid JSON: recursion limit exceeded at line 1 column 202"),
        (b"[]", "Input should be an object"),
        (webhook(version="3"), "version: Input should be '4'"),
        (webhook(version=4), "version: Input should be '4'"),
        (webhook(version=LEFT_OUT), "version: Field required"),
        (webhook(alerts=LEFT_OUT), "alerts: Field required"),
        (webhook(alerts=None), "alerts: Input should be a valid array"),
        (webhook("an alert"), "alerts[0]: Input should be an object"),
        (webhook(truncatedAlerts=-1), "truncatedAlerts: Input should be greater than or equal to 0"),
    ],
)
def test_a_body_that_is_no_notification_is_refused_in_one_line(body: bytes, reason: str) -> None:
    with pytest.raises(WebhookInvalidError) as refusal:
        read_notification(body, "acme", NOON)
    assert str(refusal.value) == reason


def test_a_thousand_alerts_are_a_thousand_intents() -> None:
    notification = read(*many(1000), at=datetime.now(UTC))
    assert len({intent.intent_id for intent in notification.intents}) == 1000
    assert set(SystemOfRecord().take(notification, datetime.now(UTC))) == {"firing 1"}


alerts = st.fixed_dictionaries(
    {
        "labels": st.dictionaries(st.text(max_size=5), st.text(max_size=5), min_size=1, max_size=3).filter(
            lambda labels: any(labels.values())
        )
    },
    optional={
        "status": st.sampled_from(["firing", "resolved", "", "other"]),
        "annotations": st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
        "startsAt": st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat),
        "endsAt": st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat),
        "fingerprint": st.text(max_size=16),
    },
)


@given(st.lists(alerts, max_size=4), st.integers(0, 299_999_999), st.integers(0, 299_999_999))
def test_a_notification_again_in_the_same_five_minutes_is_the_same_intents(sent: list[dict[str, Any]], first: int, second: int) -> None:
    once, again = (
        read(*sent, at=NOON + timedelta(microseconds=later)).intents
        for later, sent in ((first, sent), (second, [dict(reversed(each.items())) for each in sent]))
    )
    assert once == again
    assert [to_outgoing(intent, CODEC) for intent in once] == [to_outgoing(intent, CODEC) for intent in again]
    by_content: dict[str, object] = {}
    for intent in once:
        assert by_content.setdefault(intent.intent_id, (intent.command, intent.time)) == (intent.command, intent.time)
    assert len(by_content) == len({json.dumps([repr(intent.command), str(intent.time)]) for intent in once})


def test_the_order_of_labels_and_annotations_makes_no_difference() -> None:
    annotations = {"summary": "many errors", "runbook": "rollback"}
    (intent,) = read(firing(NOON, annotations=annotations)).intents
    (reordered,) = read(firing(NOON, labels=dict(reversed(LABELS.items())), annotations=dict(reversed(annotations.items())))).intents
    assert to_outgoing(intent, CODEC) == to_outgoing(reordered, CODEC)


def test_an_alert_fires_repeats_resolves_and_fires_anew() -> None:
    fired, ended, anew = firing(NOON), resolved(NOON, NOON + minutes(3)), firing(NOON + minutes(9))
    words, last = story(
        (NOON + minutes(1), fired),
        (NOON + minutes(2), fired),
        (NOON + minutes(4), ended),
        (NOON + minutes(4.5), ended),
        (NOON + minutes(9), anew),
        (NOON + minutes(10), resolved(NOON + minutes(9), NOON + minutes(9.5))),
    )
    assert words == ["firing 1", "repeat", "resolved 1", "repeat", "firing 2", "resolved 2"]
    assert (last.starts_at, last.ends_at, last.observed_at) == (NOON + minutes(9), NOON + minutes(9.5), NOON + minutes(10))


def test_a_notification_that_comes_after_a_later_one_changes_nothing() -> None:
    fired, ended, anew = firing(NOON), resolved(NOON, NOON + minutes(3)), firing(NOON + minutes(9))
    late = firing(NOON, annotations={"summary": "from another Alertmanager of the cluster"})
    assert story((NOON, fired), (NOON + minutes(4), ended), (NOON + minutes(4), fired), (NOON + minutes(4), late))[0] == [
        "firing 1",
        "resolved 1",
        "repeat",
        "ALERT_STALE",
    ]
    assert story((NOON + minutes(4), ended), (NOON + minutes(4), fired))[0] == ["resolved 1", "ALERT_STALE"]
    assert story((NOON, fired), (NOON + minutes(9), anew), (NOON + minutes(9), ended))[0] == ["firing 1", "firing 1", "ALERT_STALE"]


def test_annotations_that_change_are_taken_while_it_fires_and_when_it_is_over() -> None:
    changed = {"annotations": {"summary": "more errors"}}
    words, last = story(
        (NOON, firing(NOON)),
        (NOON + minutes(1), firing(NOON, **changed)),
        (NOON + minutes(3), resolved(NOON, NOON + minutes(2), **changed)),
        (NOON + minutes(4), resolved(NOON, NOON + minutes(2))),
    )
    assert words == ["firing 1", "firing 1", "resolved 1", "resolved 1"]
    assert last.annotations == {"summary": "many errors"}


def test_an_alert_that_fires_for_months_never_expires() -> None:
    began = NOON - timedelta(days=100)
    words, last = story(
        (NOON, firing(began)),
        (NOON + minutes(4), firing(began)),
        (NOON + minutes(240), firing(began)),
        (NOON + timedelta(days=1), firing(began)),
        (NOON + timedelta(days=40), firing(began)),
        (NOON + timedelta(days=41), resolved(began, NOON + timedelta(days=40, hours=23))),
        (NOON + timedelta(days=41), firing(NOON + timedelta(days=41))),
    )
    assert words == ["firing 1", "repeat", "no change", "no change", "no change", "resolved 1", "firing 2"]
    assert last.starts_at == NOON + timedelta(days=41)


def test_a_new_period_between_an_end_and_its_notification_makes_no_episode() -> None:
    words, last = story(
        (NOON - minutes(9), firing(NOON - minutes(9))),
        (NOON + minutes(1), resolved(NOON - minutes(9), NOON - minutes(1))),
        (NOON + minutes(2), firing(NOON - minutes(9))),
        (NOON + minutes(3), firing(NOON + minutes(3))),
    )
    assert words == ["firing 1", "resolved 1", "ALERT_STALE", "firing 2"]
    assert last.episode == 2


def test_an_alert_that_fires_on_after_it_was_thought_resolved_is_a_new_episode() -> None:
    lost_sight_of = resolved(NOON, NOON + minutes(9))
    words, last = story(
        (NOON, firing(NOON)),
        (NOON + minutes(9), lost_sight_of),
        (NOON + minutes(9.5), firing(NOON)),
        (NOON + minutes(12), firing(NOON)),
    )
    assert words == ["firing 1", "resolved 1", "ALERT_STALE", "firing 2"]
    assert last.status == "firing"
