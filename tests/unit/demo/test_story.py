"""The story over the real figures: every answer is the one that is due, and it is worth watching."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from worker.demo.figures import read_figures
from worker.demo.story import FACTS, NO_CHANGE, TENANT, audible_answers, content, definitions
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
    assert due.keys() == {FACTS, *mistakes}
    assert all(due[mistake] > 1 for mistake in mistakes)


def test_some_budgets_last_some_are_exhausted_and_some_recover(observed: Observed, evidence: Evidence) -> None:
    final = {state.budget.budget_status for state in evidence.states.values()}
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
