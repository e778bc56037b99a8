"""The Grafana dashboard: a panel a question, in the order in which somebody asks them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

_WIDTH, _HEIGHT = 8, 7
_COLUMNS: Final = 3


@dataclass(frozen=True, slots=True)
class Panel:
    """`lines` by legend; `unit` is Grafana's name of it."""

    title: str
    unit: str
    lines: dict[str, str]


def _quantiles(histogram: str, by: str = "") -> dict[str, str]:
    labels, legend = (f"le, {by}", f"{{{{{by}}}}} ") if by else ("le", "")
    rate = f"sum by ({labels}) (rate({histogram}_bucket[$__rate_interval]))"
    return {f"{legend}p{100 * q:g}": f"histogram_quantile({q:g}, {rate})" for q in (0.5, 0.99)}


PANELS: Final = (
    Panel("Workers by state", "short", {"{{state}}": "sum by (state) (sre_domain_worker_state)"}),
    Panel("Relays by state: one is active", "short", {"{{state}}": "sum by (state) (sre_domain_relay_state)"}),
    Panel("Versions", "short", {"{{job}} {{version}}": "count by (job, version) (sre_domain_build_info)"}),
    Panel("Intents by outcome", "reqps", {"{{outcome}}": "sum by (outcome) (rate(sre_domain_worker_intents_total[$__rate_interval]))"}),
    Panel("Intents by type", "reqps", {"{{type}}": "sum by (type) (rate(sre_domain_worker_intents_total[$__rate_interval]))"}),
    Panel("Rejections by code", "reqps", {"{{code}}": "sum by (code) (rate(sre_domain_worker_rejections_total[$__rate_interval]))"}),
    Panel("Intent to outcome", "s", _quantiles("sre_domain_worker_intent_to_outcome_duration_seconds")),
    Panel("Outcome to fact", "s", _quantiles("sre_domain_relay_outbox_to_fact_duration_seconds")),
    Panel("Stages of a batch", "s", _quantiles("sre_domain_worker_batch_stage_duration_seconds", "stage")),
    Panel("Lag of the workers", "short", {"{{topic}}": "sum by (topic) (sre_domain_worker_consumer_lag_records)"}),
    Panel("Age of the oldest intent at work", "s", {"oldest": "max(sre_domain_worker_oldest_unacknowledged_intent_age_seconds)"}),
    Panel("Size of a batch", "short", _quantiles("sre_domain_worker_batch_size_intents")),
    Panel("The slot is behind by", "bytes", {"unconfirmed": "max(sre_domain_relay_slot_lag_bytes)"}),
    Panel("The slot is behind for", "s", {"at least": "max(sre_domain_relay_slot_lag_seconds)"}),
    Panel(
        "WAL of the slot",
        "bytes",
        {
            "kept": "max(sre_domain_relay_slot_retained_wal_bytes)",
            "left until it is lost": "min(sre_domain_relay_slot_safe_wal_bytes)",
        },
    ),
    Panel(
        "Facts and rejections published",
        "short",
        {
            "rows a second": "sum(rate(sre_domain_relay_rows_total[$__rate_interval]))",
            "Kafka transactions a second": "sum(rate(sre_domain_relay_groups_total[$__rate_interval]))",
        },
    ),
    Panel("Watermark moves", "Bps", {"WAL": "max(rate(sre_domain_relay_watermark_lsn[$__rate_interval]))"}),
    Panel("Partitions ahead", "short", {"{{table}}": "min by (table) (sre_domain_worker_table_partitions_ahead)"}),
    Panel(
        "Taken without a good signature",
        "reqps",
        {"{{code}}": "sum by (code) (rate(sre_domain_worker_unsigned_intents_total[$__rate_interval]))"},
    ),
    Panel(
        "Questions that were not answered",
        "short",
        {
            "worker: {{collector}}": "count by (collector) (sre_domain_worker_collector_success == 0)",
            "relay: {{collector}}": "count by (collector) (sre_domain_relay_collector_success == 0)",
        },
    ),
    Panel(
        "Memory and CPU",
        "short",
        {
            "{{pod}} MB": 'process_resident_memory_bytes{job=~"sre-worker|sre-relay"} / 1e6',
            "{{pod}} cores": 'rate(process_cpu_seconds_total{job=~"sre-worker|sre-relay"}[$__rate_interval])',
        },
    ),
)


def dashboard() -> dict[str, Any]:
    """As Grafana imports it."""
    source = {"type": "prometheus", "uid": "${source}"}
    variable = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus", "hide": 0}
    return {
        "uid": "sre-domain",
        "title": "sre-domain",
        "tags": ["sre-domain"],
        "schemaVersion": 41,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [variable]},
        "panels": [_panel(number, panel, source) for number, panel in enumerate(PANELS)],
    }


def _panel(number: int, panel: Panel, source: dict[str, str]) -> dict[str, Any]:
    row, column = divmod(number, _COLUMNS)
    targets = [
        {"refId": chr(ord("A") + index), "datasource": source, "expr": expr, "legendFormat": legend}
        for index, (legend, expr) in enumerate(panel.lines.items())
    ]
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": source,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": targets,
    }
