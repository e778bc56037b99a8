"""The audit sees every breach of what holds for a kind of aggregate, and none in facts that are sound."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from worker.audit.aggregates import breaches
from worker.audit.observed import SeenFact
from worker.domain.ids import uid
from worker.domain.outcome import Context

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ALERT = str(uid("alert", "acme", "custom", "disk-7"))
EXECUTION = str(uid("fact", "acme", "runbook", "free-a-disk", "2"))

Told = list[tuple[str, dict[str, Any]]]
"""Facts of one aggregate by name and fields, versions from 1."""


def found(aggregate: str, aggregate_id: str, told: Told) -> list[str]:
    context = Context("acme", aggregate_id, NOON)
    seen = [
        SeenFact((aggregate, "acme", aggregate_id), version, name, SimpleNamespace(**fields), context, f"@{version}")
        for version, (name, fields) in enumerate(told, start=1)
    ]
    return list(breaches(seen))


CREATED: tuple[str, dict[str, Any]] = ("IncidentCreated", {})
RESOLVED = ("IncidentResolved", {"previous_status": "open"})
CLOSED = ("IncidentClosed", {"previous_status": "resolved", "merged_into": None})
NOTE: tuple[str, dict[str, Any]] = ("IncidentTimelineEntryAdded", {})


def changed(previous: str, status: str) -> tuple[str, dict[str, Any]]:
    return "IncidentStatusChanged", {"previous_status": previous, "status": status}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([CREATED, ("IncidentAcknowledged", {}), NOTE], []),
        ([CREATED, RESOLVED, CLOSED, NOTE], []),
        ([CREATED, RESOLVED, changed("resolved", "investigating")], []),
        ([CREATED, ("IncidentClosed", {"previous_status": "open", "merged_into": "another"}), NOTE], []),
        ([CREATED, RESOLVED, CLOSED, ("IncidentAssigned", {})], ["9: @4 changes a closed incident"]),
        (
            [CREATED, ("IncidentStatusChanged", {"previous_status": "open", "status": "mitigating"})],
            ["9: @2 steps from open to mitigating"],
        ),
        ([CREATED, ("IncidentClosed", {"previous_status": "open", "merged_into": None})], ["9: @2 steps from open to closed"]),
        ([CREATED, RESOLVED, ("IncidentAcknowledged", {})], ["9: @3 steps from resolved to acknowledged"]),
        ([CREATED, ("IncidentResolved", {"previous_status": "mitigating"})], ["9: @2 speaks of mitigating, and it was open"]),
    ],
)
def test_closed_is_final_and_every_step_of_a_status_is_allowed(told: Told, expected: list[str]) -> None:
    assert found("incident", "5f8d2c1e-6b1d-4f0f-8c64-0b8f6a3d2e10", told) == expected


def ingested(episode: int, fingerprint: str = "disk-7") -> tuple[str, dict[str, Any]]:
    return "AlertIngested", {"source": "custom", "fingerprint": fingerprint, "episode": episode}


def correlated(incident_id: str) -> tuple[str, dict[str, Any]]:
    return "AlertsCorrelatedToIncident", {"incident_id": incident_id}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([ingested(1), ingested(1), correlated("a"), ingested(2), correlated("b")], []),
        ([ingested(1), ingested(2), ingested(1)], ["10: @3 is episode 1 after 2"]),
        ([ingested(1), ingested(3)], ["10: @2 is episode 3 after 1"]),
        ([ingested(1, "disk-8")], ["10: @1 is on an alert of another source or fingerprint"]),
        ([ingested(1), correlated("a"), ingested(1), correlated("b")], ["10: @4 puts episode 1 on a second incident"]),
    ],
)
def test_an_alert_is_its_fingerprint_its_episodes_never_fall_and_each_has_one_incident(told: Told, expected: list[str]) -> None:
    assert found("alert", ALERT, told) == expected


DEFINED: tuple[str, dict[str, Any]] = ("RunbookCreated", {})
REQUESTED = ("RunbookExecutionRequested", {"actor": "ann"})
APPROVED = ("RunbookExecutionApproved", {"execution_id": EXECUTION, "actor": "ben"})
STARTED = ("RunbookExecutionStarted", {"execution_id": EXECUTION})
COMPLETED = ("RunbookExecutionCompleted", {"execution_id": EXECUTION, "actor": "robot"})


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([DEFINED, REQUESTED, APPROVED, STARTED, COMPLETED], []),
        ([DEFINED, REQUESTED, COMPLETED], []),
        ([DEFINED, STARTED], ["11: @2 is about an execution that nobody asked for"]),
        (
            [DEFINED, REQUESTED, ("RunbookExecutionApproved", {"execution_id": EXECUTION, "actor": "ann"})],
            ["11: @3 was decided by its requester"],
        ),
        (
            [DEFINED, REQUESTED, STARTED, STARTED],
            ["11: @4 is a second RunbookExecutionStarted, or comes after the end"],
        ),
        (
            [DEFINED, REQUESTED, COMPLETED, STARTED],
            ["11: @4 is a second RunbookExecutionStarted, or comes after the end"],
        ),
    ],
)
def test_an_execution_is_asked_for_started_and_ended_once_and_decided_by_another(told: Told, expected: list[str]) -> None:
    assert found("runbook", "free-a-disk", told) == expected


def test_crossings_of_a_budget_alternate() -> None:
    exhausted: tuple[str, dict[str, Any]] = ("SLOBudgetExhausted", {})
    recovered: tuple[str, dict[str, Any]] = ("SLOBudgetRecovered", {})
    assert found("slo", "checkout", [exhausted, recovered, exhausted]) == []
    assert found("slo", "checkout", [recovered]) == ["12: @1 crosses the same way twice"]
    assert found("slo", "checkout", [exhausted, exhausted]) == ["12: @2 crosses the same way twice"]


def test_health_and_fleet_rise_in_time_and_counts_add_up() -> None:
    def snapshot(minute: int, healthy: int = 1) -> tuple[str, dict[str, Any]]:
        counts = {"degraded_count": 0, "progressing_count": 0, "unknown_count": 0, "total_applications": 1}
        return "FleetStateRecorded", {"timestamp": NOON + timedelta(minutes=minute), "healthy_count": healthy, **counts}

    assert found("fleetstate", "x", [snapshot(0), snapshot(1)]) == []
    assert found("fleetstate", "x", [snapshot(0), snapshot(1, healthy=2)]) == ["13: @2 does not add up"]
    assert found("fleetstate", "x", [snapshot(1), snapshot(1)]) == ["13: @2 is not later than the one before"]
    assert found("healthcheck", "x", [snapshot(1), snapshot(0)]) == ["13: @2 is not later than the one before"]
