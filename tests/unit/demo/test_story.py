"""The story over the real figures: every answer is the one that is due, and it is worth watching."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from worker.demo.asking import FACTS, NO_CHANGE, TENANT, audible_answers, content
from worker.demo.figures import read_figures
from worker.demo.operations import DUPLICATE, INCIDENT, RUNBOOK
from worker.demo.result import NAMELESS, outcomes_by_intent
from worker.demo.story import definitions
from worker.domain.aggregate import AGGREGATES
from worker.domain.rejection import RejectionCode
from worker.domain.slo import AVAILABLE, EXHAUSTED, SLOBudgetExhausted, SLOBudgetRecovered

if TYPE_CHECKING:
    from worker.audit import Evidence
    from worker.demo.run import Observed
    from worker.demo.story import Story


def test_every_window_of_the_log_is_recorded_on_every_slo(story: Story, evidence: Evidence) -> None:
    windows = read_figures()
    for slo_id in definitions():
        counted = evidence.states["slo", TENANT, slo_id].counted
        assert (counted.good, counted.total) == (sum(window.good for window in windows), sum(window.total for window in windows))
    assert sum(asked.due == FACTS for asked in story.all) >= len(windows) * len(definitions())


def test_each_intent_gets_the_answer_that_is_due(story: Story, evidence: Evidence) -> None:
    due = Counter(asked.due for asked in {content(asked): asked for asked in story.all}.values())
    assert Counter(outcome.code or outcome.outcome for outcome in evidence.outcomes) == due


def test_each_kind_of_mistake_is_made_several_times(story: Story) -> None:
    due = Counter(asked.due for asked in story.all)
    mistakes = {
        RejectionCode.SLI_COUNTS_INVALID,
        RejectionCode.SLI_WINDOW_MISALIGNED,
        RejectionCode.SLI_WINDOW_OVERLAP,
        RejectionCode.SLI_WINDOW_CONFLICT,
        RejectionCode.IDEMPOTENCY_KEY_REUSED,
        RejectionCode.SCHEMA_INVALID,
        RejectionCode.SLO_NOT_FOUND,
        RejectionCode.SLO_TARGET_OUT_OF_RANGE,
        RejectionCode.TENANT_REQUIRED,
        RejectionCode.TIMESTAMP_IN_FUTURE,
        NO_CHANGE,
    }
    in_operations = {
        RejectionCode.ALERT_ALREADY_CORRELATED,
        RejectionCode.ALREADY_ACKNOWLEDGED,
        RejectionCode.APPROVER_IS_REQUESTER,
        RejectionCode.EXECUTION_TERMINAL,
        RejectionCode.FINGERPRINT_MISMATCH,
        RejectionCode.FLEET_COUNTS_MISMATCH,
        RejectionCode.INCIDENT_CLOSED,
        RejectionCode.INCIDENT_NOT_RESOLVED,
        RejectionCode.USE_DEDICATED_INTENT,
    }
    assert due.keys() == {FACTS, *mistakes, *in_operations}
    assert all(due[mistake] > 1 for mistake in mistakes)


def test_every_intent_of_every_aggregate_is_asked_and_changes_something(evidence: Evidence) -> None:
    by_intent = outcomes_by_intent(evidence)
    asked = {name.removesuffix("Requested") for aggregate in AGGREGATES.values() for name in aggregate.intents}
    assert by_intent.keys() - {NAMELESS} == asked
    assert all(by_intent[name]["facts"] > 0 for name in asked)


def test_the_incident_ends_with_its_alerts_and_its_runbook(evidence: Evidence) -> None:
    incident = evidence.states["incident", TENANT, INCIDENT]
    assert (incident.status, incident.severity, incident.alert_count, incident.assigned_to) == ("closed", "critical", 3, "ben")
    assert evidence.states["incident", TENANT, DUPLICATE].merged_into == INCIDENT
    alerts = [state for subject, state in evidence.states.items() if subject[0] == "alert"]
    assert [(alert.status, alert.incident_id) for alert in alerts] == [("resolved", INCIDENT)] * 3
    executions = evidence.states["runbook", TENANT, RUNBOOK].executions.values()
    assert sorted(execution.status for execution in executions) == ["cancelled", "expired", "rejected", "succeeded"]


def test_some_budgets_last_some_are_exhausted_and_some_recover(observed: Observed, evidence: Evidence) -> None:
    final = {state.budget.budget_status for subject, state in evidence.states.items() if subject[0] == "slo"}
    assert final == {AVAILABLE, EXHAUSTED}
    exhausted = {fact.aggregate_id for fact in observed.facts if isinstance(fact.fact, SLOBudgetExhausted)}
    recovered = {fact.aggregate_id for fact in observed.facts if isinstance(fact.fact, SLOBudgetRecovered)}
    assert set() < recovered < exhausted < definitions().keys()


def test_the_slos_use_every_budgeting_method() -> None:
    methods = {definition.sli_spec.budgeting_method for definition in definitions().values()}
    assert methods == {"occurrences", "timeslices", "ratio_timeslices"}


def test_repeats_and_no_changes_are_not_waited_for(story: Story, observed: Observed) -> None:
    distinct = {content(asked) for asked in story.all}
    unheard = sum(asked.due == NO_CHANGE for asked in story.all)
    assert len(distinct) < len(story.all)
    assert audible_answers(story.all) == len(distinct) - unheard == observed.answers
