"""Which topic each record travels on, and what a schema registry calls the two: Confluent's TopicRecordNameStrategy."""

from __future__ import annotations

from typing import Final

from worker.codec import NAMESPACE
from worker.domain.aggregate import AGGREGATES
from worker.topics import REJECTED_TOPIC, facts_topic, intents_topic

TOPIC_OF_RECORD: Final = {
    **{name: intents_topic(aggregate.name) for aggregate in AGGREGATES.values() for name in aggregate.intents},
    **{name: facts_topic(aggregate.name) for aggregate in AGGREGATES.values() for name in aggregate.facts},
    "IntentRejected": REJECTED_TOPIC,
}
"""Every record that is a message; the others are parts of these, written out in them."""

EMITTED: Final = (*(name for aggregate in AGGREGATES.values() for name in aggregate.facts), "IntentRejected")
"""What the worker writes."""


def subject_of(record: str) -> str:
    return f"{TOPIC_OF_RECORD[record]}-{NAMESPACE}.{record}"
