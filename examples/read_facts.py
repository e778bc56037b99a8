"""Print the facts of one kind of aggregate as lines of JSON: confluent-kafka, fastavro, the .avsc files and docs/contract.md.

Every fact is printed once and in the order of its aggregate, or the program ends: a repeat is skipped, a gap is an error.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from fastavro import parse_schema, schemaless_reader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from confluent_kafka import Message

SCHEMAS = Path(__file__).parent.parent / "schemas" / "avro"
NAMESPACE = "sre.core.v1"
TIMEOUT_SECONDS = 10.0


class GapError(Exception):
    """A version is missing before this fact: nothing behind it may be applied."""


class NoTopicError(Exception):
    """The broker has no facts topic: nothing of sre-domain runs there."""


def released_schemas() -> dict[tuple[str, bytes], Any]:
    """Every schema that a fact can have been written with, by record and fingerprint; the file names are the fingerprints."""
    paths = SCHEMAS.glob("history/*/*.avsc")
    return {(path.parent.name, bytes.fromhex(path.stem)): parse_schema(json.loads(path.read_text(encoding="utf-8"))) for path in paths}


def messages(bootstrap: str, topic: str, *, follow: bool) -> Iterator[Message]:
    """Committed messages of all partitions from their beginning, up to the end as it is now or on for ever."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "examples-read-facts",  # must be given; partitions are assigned by hand and no offset is stored
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=TIMEOUT_SECONDS).topics[topic].partitions
        if not partitions:
            raise NoTopicError(f"{topic} does not exist")
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
        unread = set(partitions)
        while follow or unread:
            message = consumer.poll(1.0)
            if message is None:
                continue
            error = message.error()
            if error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                unread.discard(message.partition())
            elif error.fatal():
                raise KafkaException(error)
    finally:
        consumer.close()


def text_headers(message: Message) -> dict[str, str]:
    headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    return {name: value.decode() for name, value in headers if value is not None}


def facts(bootstrap: str, topic: str, *, follow: bool) -> Iterator[dict[str, Any]]:
    """Facts with what their headers say. Raises GapError."""
    schemas = released_schemas()
    last_versions: dict[tuple[str, str, str], int] = {}  # a real consumer keeps these with the effects, in one transaction
    for message in messages(bootstrap, topic, follow=follow):
        headers = text_headers(message)
        aggregate = headers["ce_tenantid"], headers["ce_aggregatetype"], headers["ce_aggregateid"]
        version, last = int(headers["ce_aggregateversion"]), last_versions.get(aggregate, 0)
        if version <= last:
            continue
        if version > last + 1:
            raise GapError(f"{'/'.join(aggregate)}: version {version} follows {last} in partition {message.partition()}")
        last_versions[aggregate] = version
        record, value = headers["ce_type"].removeprefix(f"{NAMESPACE}."), message.value() or b""
        schema = schemas.get((record, value[2:10]))
        if schema is None:
            continue  # a fact that is younger than these .avsc files is passed over, its version kept
        yield {
            "tenant": aggregate[0],
            "aggregate": aggregate[1],
            "id": aggregate[2],
            "version": version,
            "fact": record,
            "fact_id": headers["ce_id"],
            "intent_id": headers["ce_causationid"],
            "time": headers["ce_time"],
            "data": schemaless_reader(io.BytesIO(value[10:]), schema, None),
        }


def as_text(value: object) -> str:
    """Times in RFC 3339; decimals in full, since a float could not hold them."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap", required=True, help="a Kafka broker, host:port")
    parser.add_argument("--aggregate", default="slo", help="incident, alert, runbook, slo (unless given), healthcheck or fleetstate")
    parser.add_argument("--tenant", help="print the facts of this tenant only")
    parser.add_argument("--follow", action="store_true", help="go on as more come, until Ctrl-C")
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        try:
            for fact in facts(arguments.bootstrap, f"sre.{arguments.aggregate}.facts.v1", follow=arguments.follow):
                if arguments.tenant in (None, fact["tenant"]):
                    print(json.dumps(fact, default=as_text), flush=True)
        except (GapError, NoTopicError, KafkaException) as error:
            sys.exit(f"read_facts: {error}")


if __name__ == "__main__":
    main()
