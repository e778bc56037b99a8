"""Ask sre-domain for an SLO, for what was counted, or for anything: confluent-kafka, fastavro, the .avsc files and docs/contract.md.

Each intent that Kafka has acknowledged is printed as a line of JSON. What sre-domain makes of it comes as facts (read_facts.py) or as a
rejection, both with the intent's id as their ce_causationid.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confluent_kafka import Producer
from fastavro import schemaless_writer
from fastavro.repository import AbstractSchemaRepository
from fastavro.schema import fingerprint, load_schema, to_parsing_canonical_form

if TYPE_CHECKING:
    from collections.abc import Iterator

    from confluent_kafka import KafkaError, Message

SCHEMAS = Path(__file__).parent.parent / "schemas" / "avro"
NAMESPACE = "sre.core.v1"
PRODUCER = {"enable.idempotence": True, "partitioner": "murmur2_random", "delivery.timeout.ms": 30_000}
MAX_WAITING = 10_000  # intents that are sent and not acknowledged yet

Intent = tuple[str, str, datetime, bytes]
"""Record, ce_id, ce_time and value."""


class SchemaFiles(AbstractSchemaRepository):
    """Where fastavro finds a record that another one names."""

    def load(self, name: str) -> Any:  # noqa: ANN401 - fastavro's signature
        (path,) = SCHEMAS.glob(f"sre/core/v1/*/{name.removeprefix(f'{NAMESPACE}.')}.avsc")
        return json.loads(path.read_text(encoding="utf-8"))


@cache
def framing(record: str) -> tuple[bytes, Any]:
    """What a value begins with, and its schema."""
    schema = load_schema(f"{NAMESPACE}.{record}", repo=SchemaFiles())
    return b"\xc3\x01" + bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")), schema


def encode(record: str, payload: dict[str, object]) -> bytes:
    """Avro single-object encoding. Raises ValueError where the payload does not fit the schema."""
    header, schema = framing(record)
    value = io.BytesIO()
    value.write(header)
    schemaless_writer(value, schema, payload, strict_allow_default=True)
    return value.getvalue()


def create_slo(arguments: argparse.Namespace) -> Iterator[Intent]:
    payload = {
        "name": arguments.name,
        "target": arguments.target,
        "window": arguments.window,
        "sli_spec": {"good": arguments.good, "total": arguments.total, "budgeting_method": "occurrences"},
        "owner": arguments.owner,
        "scope": arguments.scope,
        "actor": arguments.actor,
    }
    yield "CreateSLORequested", str(uuid.uuid4()), datetime.now(UTC), encode("CreateSLORequested", payload)


def record_windows(arguments: argparse.Namespace) -> Iterator[Intent]:
    """Each line of standard input is `start,good,total`, start in RFC 3339.

    Id and time follow from the window, so that a second run sends the same intents and changes nothing.
    """
    for start_text, good, total in csv.reader(sys.stdin):
        start = datetime.fromisoformat(start_text).astimezone(UTC)
        intent_id = f"window/{arguments.subject}/{start:%Y%m%dT%H%M%SZ}/{arguments.width}/{arguments.revision}"
        payload = {
            "start": start,
            "width_seconds": arguments.width,
            "good": int(good),
            "total": int(total),
            "revision": arguments.revision,
        }
        end = start + timedelta(seconds=arguments.width)
        yield "RecordSLIWindowRequested", intent_id, end, encode("RecordSLIWindowRequested", payload)


def ask(arguments: argparse.Namespace) -> Iterator[Intent]:
    """Standard input is a JSON object of the fields: times in RFC 3339, decimals as strings; what has a default may be left out."""
    record = f"{arguments.intent}Requested"
    _, schema = framing(record)
    payload = from_json(schema, json.load(sys.stdin))
    yield record, arguments.id or str(uuid.uuid4()), arguments.time or datetime.now(UTC), encode(record, payload)


def from_json(schema: Any, value: Any) -> Any:  # noqa: ANN401 - Avro types, JSON values
    """What fastavro writes under this schema: times and decimals are JSON strings."""
    if isinstance(schema, list):
        return None if value is None else from_json(next(one for one in schema if one != "null"), value)
    if not isinstance(schema, dict):
        return value
    if schema.get("logicalType") == "timestamp-micros":
        return datetime.fromisoformat(value)
    if schema.get("logicalType") == "decimal":
        return Decimal(value)
    if schema["type"] == "record":
        fields = {field["name"]: field["type"] for field in schema["fields"]}
        return {name: from_json(fields.get(name), item) for name, item in value.items()}
    if schema["type"] == "array":
        return [from_json(schema["items"], item) for item in value]
    return value


def publish(arguments: argparse.Namespace, intents: list[Intent]) -> bool:
    """Send the intents in their order; whether Kafka acknowledged all of them."""
    producer = Producer(PRODUCER | {"bootstrap.servers": arguments.bootstrap})
    failed = []

    def delivered(intent_id: str, error: KafkaError | None, message: Message) -> None:
        if error is None:
            place = {"topic": message.topic(), "partition": message.partition(), "offset": message.offset()}
            print(json.dumps({"intent_id": intent_id, **place}))
        else:
            failed.append(intent_id)
            print(f"{intent_id} was not delivered: {error.str()}", file=sys.stderr)

    for record, intent_id, time, value in intents:
        headers = {
            "ce_specversion": "1.0",
            "ce_id": intent_id,
            "ce_source": "/examples/publish_intents",
            "ce_type": f"{NAMESPACE}.{record}",
            "ce_time": f"{time:%Y-%m-%dT%H:%M:%S.%f}Z",
            "ce_subject": arguments.subject,
            "ce_tenantid": arguments.tenant,
            "content-type": "application/avro",
        }
        producer.produce(
            f"sre.{arguments.aggregate}.intents.v1",
            value,
            arguments.subject.encode(),
            headers=[(name, text.encode()) for name, text in headers.items()],
            on_delivery=partial(delivered, intent_id),
        )
        producer.poll(0)
        while len(producer) > MAX_WAITING:
            producer.poll(0.1)
    producer.flush()
    return not failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap", required=True, help="a Kafka broker, host:port")
    parser.add_argument("--tenant", required=True)
    commands = parser.add_subparsers(required=True)

    create = commands.add_parser("create-slo", help="ask for a new SLO")
    create.add_argument("subject", metavar="slo", help="its id: lowercase letters, digits and single hyphens")
    create.add_argument("--name", required=True)
    create.add_argument("--target", required=True, type=Decimal, help="percent, such as 99.9")
    create.add_argument("--window", default="7d", choices=("7d", "28d", "30d"))
    create.add_argument("--good", default="status < 500", help="what counts as a good event")
    create.add_argument("--total", default="all requests", help="what counts as an event")
    create.add_argument("--owner", required=True)
    create.add_argument("--scope", required=True)
    create.add_argument("--actor", required=True)
    create.set_defaults(intents=create_slo, aggregate="slo")

    record = commands.add_parser("record-windows", help="report counts: lines `start,good,total` on standard input")
    record.add_argument("subject", metavar="slo")
    record.add_argument("--width", type=int, default=60, choices=(60, 300), help="seconds")
    record.add_argument("--revision", type=int, default=0, help="higher than before to correct what was reported")
    record.set_defaults(intents=record_windows, aggregate="slo")

    other = commands.add_parser("ask", help="publish any intent, its fields as a JSON object on standard input")
    other.add_argument("aggregate", help="incident, alert, runbook, slo, healthcheck or fleetstate")
    other.add_argument("intent", help="its name, such as CreateIncident")
    other.add_argument("subject", metavar="aggregate_id")
    other.add_argument("--id", help="ce_id; the same one with the same fields and time is the same intent")
    other.add_argument("--time", type=datetime.fromisoformat, help="ce_time; now unless given")
    other.set_defaults(intents=ask)

    arguments = parser.parse_args()
    try:
        intents = list(arguments.intents(arguments))  # all are encoded before the first is sent
    except ValueError as error:
        sys.exit(f"publish_intents: nothing was sent: {error}")
    sys.exit(0 if publish(arguments, intents) else 1)


if __name__ == "__main__":
    main()
