"""The bus as the teams around see it: intents out, validated and confirmed; facts and rejections in, committed ones only."""

from worker.bus import BusError
from worker.committed import read_committed
from worker.fact_reader import FactGapError, FactReader, FactUnreadableError, Positions
from worker.intents import Intent, IntentInvalidError, Outgoing, aggregate_of, intent_from_fields, intent_id_of, to_outgoing
from worker.messages import ReceivedFact, UnknownFact
from worker.publishing import Delivered, IntentPublisher, publish, publish_as_is, signer_of

__all__ = [
    "BusError",
    "Delivered",
    "FactGapError",
    "FactReader",
    "FactUnreadableError",
    "Intent",
    "IntentInvalidError",
    "IntentPublisher",
    "Outgoing",
    "Positions",
    "ReceivedFact",
    "UnknownFact",
    "aggregate_of",
    "intent_from_fields",
    "intent_id_of",
    "publish",
    "publish_as_is",
    "read_committed",
    "signer_of",
    "to_outgoing",
]
