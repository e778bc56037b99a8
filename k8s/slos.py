"""What the worker promises of itself in operation, and the alerts that follow: rules for Prometheus, with a link to what to do.

Burn rates over two windows each. Source: The Site Reliability Workbook, "Alerting on SLOs", Multiwindow, Multi-Burn-Rate Alerts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

RUNBOOK: Final = "https://git.example/sre-domain/blob/main/docs/runbook.md#"
WINDOWS: Final = ("5m", "30m", "1h", "6h", "3d")


@dataclass(frozen=True, slots=True)
class Burn:
    """Alerts where the budget of 30 days goes `rate` times as fast as it may, over a long and still over a short window."""

    rate: float
    long: str
    short: str
    severity: str


BURNS: Final = (Burn(14.4, "1h", "5m", "page"), Burn(6, "6h", "30m", "page"), Burn(1, "3d", "6h", "ticket"))


@dataclass(frozen=True, slots=True)
class SLO:
    """`bad` gives the share that is bad over `{window}`, 0 to 1; `target` is the share that must be good over 30 days."""

    name: str
    alert: str
    target: float
    bad: str
    summary: str
    section: str
    burns: tuple[Burn, ...] = BURNS


SLOS: Final = (
    SLO(
        name="slow_outcomes",
        alert="SREDomainOutcomesSlow",
        target=0.99,
        bad=(
            '1 - sum(rate(sre_domain_worker_intent_to_outcome_duration_seconds_bucket{le="1.0"}[{window}]))'
            " / sum(rate(sre_domain_worker_intent_to_outcome_duration_seconds_count[{window}]))"
        ),
        summary="Too many intents get their outcome later than 1 s after the broker had them",
        section="outcomes-are-slow",
    ),
    SLO(
        name="slow_facts",
        alert="SREDomainFactsSlow",
        target=0.99,
        bad=(
            '1 - sum(rate(sre_domain_relay_outbox_to_fact_duration_seconds_bucket{le="1.0"}[{window}]))'
            " / sum(rate(sre_domain_relay_outbox_to_fact_duration_seconds_count[{window}]))"
        ),
        summary="Too many facts are published later than 1 s after their commit",
        section="facts-are-slow",
    ),
    SLO(
        name="lagging",
        alert="SREDomainLagging",
        target=0.995,
        bad="avg_over_time(sre_domain:lagging[{window}])",
        summary="Intents wait for longer than 30 s, or more than 50,000 of them, for too much of the time",
        section="intents-wait",
    ),
    SLO(
        name="slot_behind",
        alert="SREDomainSlotBehind",
        target=0.995,
        bad="avg_over_time(sre_domain:slot_behind[{window}])",
        summary="The relay's slot has had something unconfirmed for longer than 30 s, for too much of the time",
        section="the-slot-is-behind",
    ),
    SLO(
        name="rejected",
        alert="SREDomainRejections",
        target=0.95,
        bad=(
            'sum(rate(sre_domain_worker_intents_total{outcome="rejected"}[{window}]))'
            ' / sum(rate(sre_domain_worker_intents_total{outcome!="duplicate"}[{window}]))'
        ),
        summary="Too many intents are rejected",
        section="intents-are-rejected",
        burns=tuple(Burn(burn.rate, burn.long, burn.short, "ticket") for burn in BURNS),  # their producers' fault, as a rule
    ),
)

# Whether things are bad now, as 0 or 1, for the promises about time.
STATES: Final = {
    "sre_domain:lagging": (
        "clamp_max((max(sre_domain_worker_oldest_unacknowledged_intent_age_seconds) > bool 30)"
        " + (sum(sre_domain_worker_consumer_lag_records) > bool 50000), 1)"
    ),
    "sre_domain:slot_behind": "max(sre_domain_relay_slot_lag_seconds) > bool 30",
    "sre_domain:slot_safe_wal_bytes": "min(sre_domain_relay_slot_safe_wal_bytes)",
}


@dataclass(frozen=True, slots=True)
class Alert:
    name: str
    expr: str
    hold: str
    severity: str
    summary: str
    section: str


ALERTS: Final = (
    Alert(
        "SREDomainSlotFills",
        "predict_linear(sre_domain:slot_safe_wal_bytes[1h], 4 * 3600) < 0"
        " and predict_linear(sre_domain:slot_safe_wal_bytes[10m], 4 * 3600) < 0",
        "5m",
        "page",
        "At this rate the relay's slot is lost within four hours, and facts must be rebuilt",
        "the-slot-is-behind",
    ),
    Alert(
        "SREDomainSlotHalfFull",
        "sre_domain:slot_safe_wal_bytes / (sre_domain:slot_safe_wal_bytes + max(sre_domain_relay_slot_retained_wal_bytes)) < 0.5",
        "10m",
        "page",
        "The relay's slot keeps half of the WAL that it may before it is lost",
        "the-slot-is-behind",
    ),
    Alert(
        "SREDomainNoWorker",
        'absent(sre_domain_worker_state{state="active"} == 1)',
        "5m",
        "page",
        "No worker takes intents",
        "no-worker-takes-intents",
    ),
    Alert(
        "SREDomainNoRelay",
        'absent(sre_domain_relay_state{state="active"} == 1)',
        "2m",
        "page",
        "No relay publishes facts",
        "no-relay-publishes",
    ),
    Alert(
        "SREDomainNoStandby",
        'absent(sre_domain_relay_state{state="standing by"} == 1)',
        "15m",
        "ticket",
        "No relay stands by to take over",
        "no-relay-stands-by",
    ),
    Alert(
        "SREDomainInternalErrors",
        'increase(sre_domain_worker_rejections_total{code="INTERNAL_ERROR"}[15m]) > 0',
        "0m",
        "ticket",
        "Intents were rejected for a fault of ours",
        "intents-are-rejected",
    ),
    Alert(
        "SREDomainMaintenanceStopped",
        "min by (table) (sre_domain_worker_table_partitions_ahead) < 1",
        "1h",
        "page",
        "Nobody has made the next partitions of {{ $labels.table }}",
        "maintenance-does-not-run",
    ),
)


def groups() -> list[dict[str, Any]]:
    """The groups of a rules file, and of a PrometheusRule's spec."""
    recorded = [{"record": name, "expr": expr} for name, expr in STATES.items()]
    ratios = [{"record": ratio(slo, window), "expr": slo.bad.replace("{window}", window)} for slo in SLOS for window in WINDOWS]
    burning = [_burning(slo, burn) for slo in SLOS for burn in slo.burns]
    return [
        {"name": "sre-domain.states", "interval": "30s", "rules": recorded},
        {"name": "sre-domain.burn-rates", "interval": "30s", "rules": ratios},
        {"name": "sre-domain.slos", "rules": burning},
        {"name": "sre-domain.conditions", "rules": [_rule(alert) for alert in ALERTS]},
    ]


def ratio(slo: SLO, window: str) -> str:
    return f"sre_domain:{slo.name}:ratio_{window}"


def _burning(slo: SLO, burn: Burn) -> dict[str, Any]:
    limit = f"{burn.rate:g} * {1 - slo.target:.3g}"
    return {
        "alert": slo.alert,
        "expr": f"{ratio(slo, burn.long)} > {limit} and {ratio(slo, burn.short)} > {limit}",
        "for": "2m",
        "labels": {"severity": burn.severity, "burn_rate": f"{burn.rate:g}", "window": burn.long},
        "annotations": {"summary": slo.summary, "description": _described(slo, burn), "runbook_url": RUNBOOK + slo.section},
    }


def _described(slo: SLO, burn: Burn) -> str:
    return f"{{{{ $value | humanizePercentage }}}} over {burn.long}, where {1 - slo.target:.3g} is the budget of 30 days"


def _rule(alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": alert.hold,
        "labels": {"severity": alert.severity},
        "annotations": {"summary": alert.summary, "runbook_url": RUNBOOK + alert.section},
    }
