"""Alertmanager's webhook, version 4: a notification's alerts as IngestAlert intents, or why there are none.

An intent and its id follow from the alert and the five minutes in which it came, and from nothing else: a retry is the same intent again
(Alertmanager gives one up after group_interval, 5 minutes unless set). Its time is the latest of the alert's start, its end and the
beginning of those minutes, so it never expires. A repeat hours later is another intent, which changes nothing. Held against a stored alert
by these times,

- an alert that fires anew has a start after its last end, and so a new episode;
- annotations that change have a time that is not before that of the alert, and are taken;
- an alert that Alertmanager resolved because it had lost sight of it, and that fires on with its old start, is a new episode;
- what comes late, after news of a later start or end in the same minutes, is the old intent again or ALERT_STALE.

What looks just as it did earlier in the same minutes is taken for a retry, even where something else came between. The next notification
puts that right.

Sources: Prometheus documentation, Alertmanager configuration, `<webhook_config>`; prometheus/alertmanager, `notify/webhook` and
`template.Data`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, FailFast, Field, NonNegativeInt, Strict, StrictStr, ValidationError

from worker.client import Intent, intent_id_of
from worker.domain.aggregate import intent_name
from worker.domain.alert import PROMETHEUS, RESOLVED, IngestAlert, alert_id_of
from worker.domain.fields import EPOCH, parse_rfc3339, wrong_shape
from worker.domain.fingerprint import fingerprint_of

SOURCE: Final = "/integrations/alertmanager"

SEVERITIES: Final = {
    "page": "critical",
    "critical": "critical",
    "error": "high",
    "major": "high",
    "high": "high",
    "warning": "medium",
    "medium": "medium",
    "info": "low",
    "minor": "low",
    "low": "low",
    "none": "low",
}
"""By the lowercase label `severity`; what is not listed, and an alert without the label, is medium."""

RETRY_PERIOD: Final = timedelta(minutes=5)
LARGEST_ALERT_BYTES: Final = 900_000
"""Of its JSON. Kafka's clients send no record of over 1,000,000 bytes; the worker takes less than that, and records what it refuses."""


MAX_ALERTS: Final = 10_000  # what a body of 8 MiB holds is half of it
_MAX_SEPARATORS: Final = 500_000  # likewise; 8 MiB of small values take gigabytes once they are parsed
_NAME_SHOWN: Final = 100


class WebhookInvalidError(ValueError):
    """A body that is no version 4 notification, or has an alert that no intent can be made of; one line, for whoever sent it."""


@dataclass(frozen=True, slots=True)
class Notification:
    """`truncated` alerts of the group were left out by Alertmanager (max_alerts) and are known by their number alone."""

    intents: tuple[Intent, ...]
    group_key: str
    truncated: int


def _time(value: object) -> datetime:
    try:
        return parse_rfc3339(value if isinstance(value, str) else "")
    except ValueError:
        raise wrong_shape("must be an RFC 3339 time") from None


def _texts(pairs: object) -> object:
    """Ahead of pydantic, which keeps a kilobyte for each fault: the first is enough."""
    wrong = next((name for name, value in pairs.items() if not isinstance(value, str)), None) if isinstance(pairs, dict) else None
    if wrong is not None:
        raise wrong_shape(f"{wrong[:_NAME_SHOWN]} must be text")
    return pairs


_Time = Annotated[datetime, BeforeValidator(_time)]
_Texts = Annotated[dict[StrictStr, StrictStr], BeforeValidator(_texts)]


class _Alert(BaseModel):
    """What can be absent is left to the system of record, which refuses it on record."""

    status: StrictStr | None = None
    labels: _Texts | None = None
    annotations: _Texts | None = None
    starts_at: _Time | None = Field(default=None, alias="startsAt")
    ends_at: _Time | None = Field(default=None, alias="endsAt")
    fingerprint: StrictStr | None = None


class _Webhook(BaseModel):
    version: Literal["4"]
    alerts: Annotated[list[_Alert], FailFast(), Field(max_length=MAX_ALERTS)]
    group_key: StrictStr = Field(default="", alias="groupKey")
    truncated: Annotated[NonNegativeInt, Strict()] = Field(default=0, alias="truncatedAlerts")


def read_notification(body: bytes, tenant_id: str, received_at: datetime) -> Notification:
    """All of the body's alerts, in its order. Raises WebhookInvalidError, which names the first fault by its place."""
    if sum(map(body.count, b",:[{")) > _MAX_SEPARATORS:
        raise WebhookInvalidError(f"has more than {_MAX_SEPARATORS} values: set max_alerts in Alertmanager's webhook_configs")
    try:
        webhook = _Webhook.model_validate_json(body)
    except ValidationError as error:
        raise WebhookInvalidError(_first_fault(error)) from None
    period = received_at - (received_at - EPOCH) % RETRY_PERIOD
    intents = tuple(_intent(f"alerts[{index}]", alert, tenant_id, period) for index, alert in enumerate(webhook.alerts))
    return Notification(intents, webhook.group_key, webhook.truncated)


def _intent(place: str, alert: _Alert, tenant_id: str, period: datetime) -> Intent:
    command = _command(place, alert)
    time = max([period, *(time for time in (command.starts_at, command.ends_at) if time is not None)])
    content = json.dumps([asdict(command), time], ensure_ascii=False, sort_keys=True, default=datetime.isoformat).encode()
    if len(content) > LARGEST_ALERT_BYTES:
        raise WebhookInvalidError(f"{place}: is larger than a Kafka record may be: {len(content)} bytes")
    return Intent(
        name=intent_name(IngestAlert),
        tenant_id=tenant_id,
        aggregate_id=alert_id_of(tenant_id, command.source, command.fingerprint),
        command=command,
        source=SOURCE,
        intent_id=intent_id_of(SOURCE, sha256(content).hexdigest()),
        time=time,
    )


def _command(place: str, alert: _Alert) -> IngestAlert:
    labels = {name: value for name, value in sorted((alert.labels or {}).items()) if value}
    if not alert.fingerprint and not labels:
        raise WebhookInvalidError(f"{place}: has neither a fingerprint nor a label, so nothing says which alert it is")
    size = sum(len(name) + len(value) for name, value in labels.items())
    if size > LARGEST_ALERT_BYTES:  # ahead of hashing them, which takes a second for some megabytes
        raise WebhookInvalidError(f"{place}: is larger than a Kafka record may be: {size} characters of labels")
    fingerprint = alert.fingerprint or fingerprint_of(labels)
    return IngestAlert(
        source=PROMETHEUS,
        fingerprint=fingerprint,
        name=labels.get("alertname", fingerprint),
        severity=SEVERITIES.get(labels.get("severity", "").lower(), "medium"),
        status=alert.status or "",
        labels=labels,
        annotations=dict(sorted((alert.annotations or {}).items())),
        starts_at=alert.starts_at,
        ends_at=alert.ends_at if alert.status == RESOLVED else None,  # while it fires, when Alertmanager would give it up
    )


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"]).removeprefix(".")
    return f"{place}: {fault['msg']}" if place else fault["msg"]
