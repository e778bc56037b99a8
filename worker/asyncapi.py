"""The bus as an AsyncAPI 3.0 document, made from the registry of intents and facts, the topics and the Avro schemas.

Operations are told from the side of `sre-domain`: it receives intents, and sends facts and rejections. Source: asyncapi.com, 3.0.0.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from worker.codec import NAMESPACE, current_schemas
from worker.domain.aggregate import AGGREGATES
from worker.envelope import CONTENT_TYPE, SOURCE, SPEC_VERSION
from worker.topics import PARTITIONS, REJECTED_TOPIC, facts_topic, intents_topic, topic_specs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worker.codec import Schema

Node = dict[str, Any]

_AVRO: Final = "application/vnd.apache.avro;version=1.9.0"  # as AsyncAPI 3.0 lists it; nothing of a later Avro is used
_BINDING: Final = "0.5.0"
_REJECTION: Final = "IntentRejected"
_IN_A_BINDING: Final = ("cleanup.policy", "retention.ms", "max.message.bytes")  # the settings of a topic that AsyncAPI has names for

_TEXT: Final[Node] = {"type": "string", "minLength": 1}
_TIME: Final[Node] = {"type": "string", "format": "date-time"}
_TENANT: Final[Node] = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"}
_PASSED_ON: Final[Node] = {name: {"type": "string"} for name in ("ce_correlationid", "ce_traceparent", "ce_tracestate")}
_OURS: Final[Node] = {
    "ce_id": {"type": "string", "format": "uuid"},
    "ce_source": {"const": SOURCE},
    "ce_principal": {"type": "string", "description": "Of the key that signed the intent, where that was looked at."},
}


def asyncapi_document() -> Node:
    """Plain JSON values. The Avro schemas are written out, with their descriptions."""
    schemas = current_schemas()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "sre-domain",
            "version": version("sre-domain"),
            "description": "The system of record of an SRE organisation. Whoever wants a change publishes an intent; it is decided once, "
            "and what changed goes out as facts, or why nothing may change as a rejection. Rules and codes: docs/contract.md.",
        },
        "defaultContentType": CONTENT_TYPE.decode(),
        "channels": dict(_channels()),
        "operations": dict(_operations()),
        "components": {
            "messages": dict(_messages(schemas)),
            "schemas": {"intentHeaders": _INTENT_HEADERS, "factHeaders": _FACT_HEADERS, "rejectionHeaders": _REJECTION_HEADERS},
        },
    }


def _headers(required: Iterable[str], **properties: Node) -> Node:
    common = {
        "ce_specversion": {"const": SPEC_VERSION.decode()},
        "ce_type": _TEXT,
        "ce_time": _TIME,
        "content-type": {"const": CONTENT_TYPE.decode()},
    }
    return {"type": "object", "required": sorted([*common, *required]), "properties": {**common, **_PASSED_ON, **properties}}


_INTENT_HEADERS: Final = _headers(
    ("ce_id", "ce_source", "ce_subject", "ce_tenantid"),
    ce_id={"type": "string", "pattern": "^[!-~]{1,128}$", "description": "Yours, unique in the tenant; kept when it is sent again."},
    ce_source={"type": "string", "format": "uri-reference"},
    ce_subject={"type": "string", "minLength": 1, "description": "Id of the aggregate, equal to the record's key."},
    ce_tenantid=_TENANT,
    ce_causationid={"type": "string"},
    ce_keyid={"type": "string", "description": "docs/signatures.md"},
    ce_signature={"type": "string", "description": "docs/signatures.md"},
)
_FACT_HEADERS: Final = _headers(
    (
        "ce_id",
        "ce_source",
        "ce_subject",
        "ce_tenantid",
        "ce_correlationid",
        "ce_causationid",
        "ce_aggregatetype",
        "ce_aggregateid",
        "ce_aggregateversion",
    ),
    **_OURS,
    ce_subject=_TEXT,
    ce_tenantid=_TENANT,
    ce_causationid={"type": "string", "description": "The ce_id of the intent."},
    ce_aggregatetype={"enum": list(AGGREGATES)},
    ce_aggregateid=_TEXT,
    ce_aggregateversion={"type": "string", "pattern": "^[1-9][0-9]*$"},
)
_REJECTION_HEADERS: Final = _headers(
    ("ce_id", "ce_source"),
    **_OURS,
    ce_subject={"type": "string"},
    ce_tenantid=_TENANT,
    ce_causationid={"type": "string", "description": "The ce_id of the intent, where it is well-formed."},
)


def _channels() -> Iterable[tuple[str, Node]]:
    specs = {spec.name: spec for spec in topic_specs(tuple(AGGREGATES))}

    def channel(topic: str, title: str, messages: Iterable[str]) -> Node:
        config = {name: _plain(name, value) for name, value in specs[topic].config.items() if name in _IN_A_BINDING}
        return {
            "address": topic,
            "title": title,
            "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
            "bindings": {"kafka": {"topic": topic, "partitions": PARTITIONS, "topicConfiguration": config, "bindingVersion": _BINDING}},
        }

    for name, aggregate in AGGREGATES.items():
        yield f"{name}Intents", channel(intents_topic(name), f"Intents whose subject is an aggregate of type {name}", aggregate.intents)
        yield f"{name}Facts", channel(facts_topic(name), f"Facts of aggregates of type {name}", aggregate.facts)
    yield "rejections", channel(REJECTED_TOPIC, "Intents of all aggregates that were refused", [_REJECTION])


def _plain(name: str, value: str) -> list[str] | int:
    return [value] if name == "cleanup.policy" else int(value)


def _operations() -> Iterable[tuple[str, Node]]:
    for name in AGGREGATES:
        yield f"receive_{name}_intents", {"action": "receive", "channel": {"$ref": f"#/channels/{name}Intents"}}
        yield f"send_{name}_facts", {"action": "send", "channel": {"$ref": f"#/channels/{name}Facts"}}
    yield "send_rejections", {"action": "send", "channel": {"$ref": "#/channels/rejections"}}


def _messages(schemas: dict[str, Schema]) -> Iterable[tuple[str, Node]]:
    for aggregate in AGGREGATES.values():
        for name in aggregate.intents:
            yield name, _message(schemas[name], "intentHeaders", "Id of the aggregate.")
        for name in aggregate.facts:
            yield name, _message(schemas[name], "factHeaders", "tenant/aggregate id/version; the partition is that of tenant/aggregate id.")
    yield _REJECTION, _message(schemas[_REJECTION], "rejectionHeaders", "The refused record's key, at most its first 64 KiB.")


def _message(schema: Schema, headers: str, key: str) -> Node:
    """The payload is the datum; on the wire ten bytes stand before it (docs/contract.md, Values)."""
    return {
        "name": f"{NAMESPACE}.{schema['name']}",
        "title": schema["name"],
        "summary": schema["doc"],
        "contentType": CONTENT_TYPE.decode(),
        "headers": {"$ref": f"#/components/schemas/{headers}"},
        "payload": {"schemaFormat": _AVRO, "schema": schema},
        "bindings": {"kafka": {"key": {"type": "string", "description": key}, "bindingVersion": _BINDING}},
    }
