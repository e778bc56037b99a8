"""What a batch comes to, while it is being decided: outcomes so far, states so far, and the rows that will say so."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from worker.domain.aggregate import AGGREGATES
from worker.domain.outcome import FactOn
from worker.domain.rejection import Rejection, RejectionCode
from worker.emission import broker_time, position_of, rejection_id_by_intent, rejection_id_by_position
from worker.postgres.inbox import Decided, InboxRow, intent_key
from worker.postgres.storage import Change, Key, Subject
from worker.receiving import Received, Refused

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from worker.domain.outcome import Context
    from worker.emission import Emitter
    from worker.envelope import Envelope
    from worker.postgres.outbox import OutboxRow

_REUSED = Rejection(RejectionCode.IDEMPOTENCY_KEY_REUSED, "this ce_id was used with other content")


class Decisions:
    """Outcomes by intent id (and by position, where no id was used up), the changed states, and rows for inbox and outbox."""

    def __init__(self, aggregate: str, emitter: Emitter, earlier: dict[Key, Decided], states: dict[Subject, Any]) -> None:
        self._aggregate = aggregate
        self._emitter = emitter
        self._decided = earlier
        self._some_by_position = any(not tenant_id for tenant_id, _ in earlier)  # only where records came again
        self._before = dict(states)
        self._states = states
        self.inbox_rows: list[InboxRow] = []
        self.outbox_rows: list[OutboxRow] = []

    def is_decided(self, item: Received) -> bool:
        """Whether this very record has its outcome, or is a repeat of an intent that has."""
        if self._some_by_position and ("", position_of(item.record)) in self._decided:
            return True
        decided = None if item.intent is None else self._decided.get(item.intent)
        if decided is None or decided.content_hash != item.content_hash:
            return False
        return not isinstance(item.verdict, Refused) or decided[1:] == item.record[:3]

    def reuses_an_id(self, item: Received) -> bool:
        """Whether the id was used with other content; to be asked of records that are not decided."""
        return item.intent in self._decided

    def state_of(self, subject: Subject) -> Any | None:  # noqa: ANN401 - any aggregate's
        return self._states.get(subject)

    def reject_reuse(self, item: Received) -> None:
        self.reject_position(item, _REUSED)

    def reject_position(self, item: Received, rejection: Rejection) -> None:
        """Refuse a record without using up its id."""
        record = item.record
        self.outbox_rows.append(self._emitter.rejection_row(record, rejection, rejection_id_by_position(record), item.principal))
        self._record(item, ("", position_of(record)), broker_time(record), "rejected", rejection.code)

    def reject_intent(self, item: Received, envelope: Envelope, rejection: Rejection) -> None:
        self.outbox_rows.append(self._emitter.rejection_row(item.record, rejection, rejection_id_by_intent(envelope), item.principal))
        self._record(item, envelope.intent, envelope.time, "rejected", rejection.code)

    def record_no_change(self, item: Received, envelope: Envelope) -> None:
        self._record(item, envelope.intent, envelope.time, "no_change")

    def record_facts(self, item: Received, envelope: Envelope, context: Context, facts: tuple[Any, ...]) -> None:
        """Fold the facts in, each on the next version of its aggregate."""
        own = (self._aggregate, envelope.tenant_id, envelope.subject)
        fact_ids = []
        for fact in facts:
            if type(fact) is FactOn:
                other = replace(context, aggregate_id=fact.aggregate_id)
                row = self._fold((fact.aggregate, envelope.tenant_id, fact.aggregate_id), fact.fact, item, envelope, other)
            else:
                row = self._fold(own, fact, item, envelope, context)
            fact_ids.append(row.id)
        self._record(item, envelope.intent, envelope.time, "facts", fact_ids=fact_ids)

    def _fold(self, subject: Subject, fact: Any, item: Received, envelope: Envelope, context: Context) -> OutboxRow:  # noqa: ANN401
        state = AGGREGATES[subject[0]].evolve(self._states.get(subject), fact, context)
        self._states[subject] = state
        row = self._emitter.fact_row(subject, envelope, fact, state.version, item.principal)
        self.outbox_rows.append(row)
        return row

    def changes(self) -> dict[str, dict[Key, Change]]:
        """The states that are not as the batch found them, by aggregate."""
        changed: dict[str, dict[Key, Change]] = defaultdict(dict)
        for subject, state in self._states.items():
            before = self._before.get(subject)
            if state is not before:
                changed[subject[0]][subject[1:]] = Change(before, state)
        return changed

    def _record(
        self, item: Received, key: Key, ce_time: datetime, outcome: str, code: str | None = None, fact_ids: list[UUID] | None = None
    ) -> None:
        record = item.record
        self._decided[key] = Decided(item.content_hash, *record[:3])
        ids = "{" + ",".join([fact_id.hex for fact_id in fact_ids or ()]) + "}"
        self.inbox_rows.append(
            InboxRow(key[0], intent_key(*key), key[1], ce_time, item.content_hash, record.partition, record.offset, outcome, code, ids)
        )
