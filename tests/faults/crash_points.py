"""Every step at which worker and relay can be killed, in the order of their work, and what a kill there must leave behind.

A step is a function by its dotted name, or `sql:<file>.<statement>` for a statement of sql/queries once it is on its way to PostgreSQL.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple


class CrashPoint(NamedTuple):
    """Killed `moment` the `nth` call of `step`, counted from when `armed_by` has been called.

    `leaves`: nothing or everything of the batch or group that was in hand; either where the other side may not have read it yet.
    `breaks_at` names a step after whose first call the connection to PostgreSQL seems lost, `stops_at` one after which SIGTERM comes.
    """

    name: str
    moment: Literal["before", "after"]
    step: str
    leaves: Literal["nothing", "everything", "either"] = "nothing"
    armed_by: str | None = None
    nth: int = 1
    breaks_at: str | None = None
    stops_at: str | None = None


_ACK: Final = "faust.events.Event.ack"
_COMMIT: Final = "psycopg.AsyncConnection.commit"
_COMMIT_OFFSETS: Final = "faust.transport.consumer.Consumer._commit_offsets"
_CONFIRM: Final = "worker.relay.replication.ReplicationStream.confirm"
_GIVE_SLOT_BACK: Final = "worker.relay.replication.ReplicationStream.close"
_INSERT_INBOX: Final = "sql:inbox.insert_inbox"
_KAFKA_COMMIT: Final = "worker.relay.publisher.Publisher.commit"
_PRODUCE: Final = "worker.relay.publisher.Producer.produce"
_PROCESS: Final = "worker.pipeline.process_batch"
_PRODUCER: Final = "worker.relay.publisher.Producer"
_SLOT: Final = "worker.relay.slot"
_TAKE_BATCH: Final = "worker.agents.take_batch"

END_TXN: Final = "kafka:EndTxn"
"""The request that ends a Kafka transaction, at the moment in which it is on the wire and its answer is not."""

WORKER: Final = (
    CrashPoint("batch taken", "after", _TAKE_BATCH),
    CrashPoint("before BEGIN", "before", "sql:inbox.see_tenants"),
    CrashPoint("after BEGIN, tenants named", "after", "sql:inbox.see_tenants"),
    CrashPoint("positions locked", "after", "sql:inbox.lock_positions"),
    CrashPoint("intents locked", "after", "sql:inbox.lock_intents"),
    CrashPoint("outcomes asked for", "after", "sql:inbox.outcomes_of"),
    CrashPoint("states locked", "after", "sql:slo.lock_rows"),
    CrashPoint("ledger read", "after", "sql:slo.ledger_hours"),
    CrashPoint("decided", "after", "worker.decisions.Decisions.changes"),
    CrashPoint("states inserted", "after", "sql:slo.insert_rows"),
    CrashPoint("states updated", "after", "sql:slo.update_rows"),
    CrashPoint("budgets updated", "after", "sql:slo.update_budgets"),
    CrashPoint("ledger saved", "after", "sql:slo.save_ledger"),
    CrashPoint("ledger dropped", "after", "sql:slo.drop_ledger"),
    CrashPoint("outbox inserted", "after", "sql:outbox.insert_outbox"),
    CrashPoint("inbox inserted", "after", _INSERT_INBOX),
    CrashPoint("positions advanced", "after", "sql:inbox.advance_positions"),
    CrashPoint("before COMMIT", "before", _COMMIT),
    CrashPoint("COMMIT sent", "after", _COMMIT, "either", armed_by=_INSERT_INBOX),
    CrashPoint("after COMMIT", "after", _PROCESS, "everything", armed_by=_INSERT_INBOX),
    CrashPoint("repeats looked up", "after", "sql:inbox.outcomes_of", "either", nth=2),
    CrashPoint("before the first ack", "before", _ACK, "everything", armed_by=_INSERT_INBOX),
    CrashPoint("between acks", "after", _ACK, "everything", armed_by=_INSERT_INBOX),
    CrashPoint("after the last ack", "before", _TAKE_BATCH, "everything", armed_by=_ACK),
    CrashPoint("before offsets are committed", "before", _COMMIT_OFFSETS, "everything", armed_by=_ACK),
    CrashPoint("after offsets were committed", "after", _COMMIT_OFFSETS, "everything", armed_by=_ACK),
    CrashPoint("told to stop, before offsets are committed", "before", _COMMIT_OFFSETS, "everything", stops_at=_ACK),
    CrashPoint("told to stop, after offsets were committed", "after", _COMMIT_OFFSETS, "everything", stops_at=_ACK),
)

APART: Final = (
    CrashPoint("alerts inserted", "after", "sql:alert.insert_rows"),
    CrashPoint("incidents inserted", "after", "sql:incident.insert_rows"),
    CrashPoint("timeline saved", "after", "sql:incident.insert_entries"),
)

JOINT: Final = (
    CrashPoint("one aggregate locked, the other not", "after", "sql:alert.lock_rows"),
    CrashPoint("both aggregates locked", "after", "sql:incident.lock_rows"),
    CrashPoint("one aggregate saved, the other not", "after", "sql:alert.update_rows"),
    CrashPoint("both aggregates saved", "after", "sql:incident.update_rows"),
    CrashPoint("joint outbox inserted", "after", "sql:outbox.insert_outbox", armed_by="sql:alert.update_rows"),
    CrashPoint("joint COMMIT sent", "after", _COMMIT, "either", armed_by="sql:alert.update_rows"),
    CrashPoint("after joint COMMIT", "after", _PROCESS, "everything", armed_by="sql:alert.update_rows"),
)

REFUSED: Final = (
    CrashPoint("rejection inserted", "after", "sql:outbox.insert_outbox"),
    CrashPoint("rejection's COMMIT sent", "after", _COMMIT, "either", armed_by=_INSERT_INBOX),
    CrashPoint("after rejection's COMMIT", "after", _PROCESS, "everything", armed_by=_INSERT_INBOX),
)

FAULTY: Final = (
    CrashPoint("fault of ours, before its rejection", "before", "worker.pipeline.reject_batch"),
    CrashPoint("fault's rejection inserted", "after", "sql:outbox.insert_outbox"),
    CrashPoint("fault's COMMIT sent", "after", _COMMIT, "either", armed_by=_INSERT_INBOX),
    CrashPoint("after fault's COMMIT", "after", "worker.pipeline.reject_batch", "everything", armed_by=_INSERT_INBOX),
)

NO_SLOT: Final = (
    CrashPoint("temporary slot made", "before", "sql:relay.keep_slot"),
    CrashPoint("slot kept", "after", "sql:relay.keep_slot"),
)

RELAY: Final = (
    CrashPoint("slot taken, replication started", "after", f"{_SLOT}.take_slot"),
    CrashPoint("before the one before is fenced", "before", "worker.relay.publisher.Publisher.fence"),
    CrashPoint("producer initialised", "after", "worker.relay.publisher.Publisher.fence"),
    CrashPoint("hanging transactions looked for", "after", "worker.relay.hanging.end_hanging"),
    CrashPoint("history identified", "after", "worker.relay.replication.identity_of"),
    CrashPoint("watermark read", "after", "worker.relay.watermark.read_committed"),
    CrashPoint("start confirmed", "after", _CONFIRM),
    CrashPoint("transaction begun", "after", f"{_PRODUCER}.begin_transaction"),
    CrashPoint("first record produced", "after", _PRODUCE),
    CrashPoint("group produced, before its watermark", "before", _KAFKA_COMMIT),
    CrashPoint("watermark produced, before commit", "before", f"{_PRODUCER}.commit_transaction"),
    CrashPoint("connection lost, before abort", "before", f"{_PRODUCER}.abort_transaction", breaks_at=_PRODUCE),
    CrashPoint("connection lost, after abort", "after", f"{_PRODUCER}.abort_transaction", breaks_at=_PRODUCE),
    CrashPoint("connection lost, before slot is given back", "before", _GIVE_SLOT_BACK, breaks_at=_PRODUCE),
    CrashPoint("connection lost, after slot was given back", "after", _GIVE_SLOT_BACK, breaks_at=_PRODUCE),
    CrashPoint("commit sent", "after", END_TXN, "either"),
    CrashPoint("after commit", "after", f"{_PRODUCER}.commit_transaction", "everything"),
    CrashPoint("before confirm", "before", _CONFIRM, "everything", armed_by=_KAFKA_COMMIT),
    CrashPoint("after confirm", "after", _CONFIRM, "everything", armed_by=_KAFKA_COMMIT),
    CrashPoint("told to stop, before slot is given back", "before", _GIVE_SLOT_BACK, "everything", stops_at=_KAFKA_COMMIT),
    CrashPoint("told to stop, after slot was given back", "after", _GIVE_SLOT_BACK, "everything", stops_at=_KAFKA_COMMIT),
)

STANDBY: Final = (CrashPoint("standing by", "after", f"{_SLOT}._start_or_make", nth=2),)

POINTS: Final = {
    "worker": {point.name: point for point in (*WORKER, *APART, *JOINT, *REFUSED, *FAULTY)},
    "relay": {point.name: point for point in (*NO_SLOT, *RELAY, *STANDBY)},
}
