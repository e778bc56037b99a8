"""The reference of messages, from the registry of intents and facts and their Avro schemas; and a page for the AsyncAPI document."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from handbook.tables import cell, table
from worker.codec import NAMESPACE, current_schemas, load_codec
from worker.domain.aggregate import AGGREGATES
from worker.topics import REJECTED_TOPIC, facts_topic, intents_topic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from worker.codec import Schema

_TITLES: Final = {"slo": "SLO", "healthcheck": "HealthCheck", "fleetstate": "FleetState"}
_PREFIX: Final = f"{NAMESPACE}."


def messages_page() -> str:
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    schemas, codec = current_schemas(), load_codec()
    yield "# Messages\n"
    yield "Every intent and fact with its fields, as the Avro schemas have them; rules and codes are in [the contract](../contract.md)"
    yield "and the pages of the aggregates. The ten bytes before each datum are marker and fingerprint ([values](../contract.md#values))."
    yield "As a document for tools: [AsyncAPI](asyncapi.md).\n"
    for aggregate in AGGREGATES.values():
        for what, topic, names in (("intents", intents_topic, aggregate.intents), ("facts", facts_topic, aggregate.facts)):
            yield f"## {_TITLES.get(aggregate.name, aggregate.name.capitalize())}: {what}\n"
            yield f"On `{topic(aggregate.name)}`.\n"
            for name in names:
                yield from _record(name, schemas[name], codec.headers[name])
    yield "## Rejections\n"
    yield f"On `{REJECTED_TOPIC}`.\n"
    yield from _record("IntentRejected", schemas["IntentRejected"], codec.headers["IntentRejected"])
    yield "## Types\n"
    messages = {name for aggregate in AGGREGATES.values() for name in (*aggregate.intents, *aggregate.facts)}
    for name in sorted(schemas.keys() - messages - {"IntentRejected"}):
        yield from _record(name, schemas[name], None)


def _record(name: str, schema: Schema, starts_with: bytes | None) -> Iterator[str]:
    yield f"### {name}\n"
    yield f"{cell(schema['doc'])}\n"
    if starts_with is not None:
        yield f"`{_PREFIX}{name}`, begins with `{starts_with.hex(' ')}`\n"
    if schema["fields"]:
        rows = [(f"`{field['name']}`", _type(field["type"]), _default(field), cell(field.get("doc", ""))) for field in schema["fields"]]
        yield from table(("Field", "Type", "Default", "Meaning"), rows)
        yield ""


def _type(node: Any) -> str:  # noqa: ANN401 - any JSON of a schema
    if isinstance(node, list):
        return " or ".join(map(_type, node))
    if isinstance(node, str):
        return f"[{node.removeprefix(_PREFIX)}](#{node.removeprefix(_PREFIX).lower()})" if node.startswith(_PREFIX) else node
    match node:
        case {"type": "record", "name": name}:
            return _type(name if name.startswith(_PREFIX) else _PREFIX + name)
        case {"type": "array", "items": items}:
            return f"list of {_type(items)}"
        case {"type": "map", "values": values}:
            return f"map of {_type(values)}"
        case {"logicalType": "decimal", "precision": precision, "scale": scale}:
            return f"decimal({precision}, {scale}) in bytes"
        case {"type": kind, "logicalType": logical}:
            return f"{kind}, {logical}"
        case _:
            return _type(node["type"])


def _default(field: dict[str, Any]) -> str:
    return f"`{json.dumps(field['default'])}`" if "default" in field else "required"


def asyncapi_page(document: dict[str, Any]) -> str:
    return "\n".join(_asyncapi_lines(document))


def _asyncapi_lines(document: dict[str, Any]) -> Iterator[str]:
    yield "# AsyncAPI\n"
    yield f"The bus as an [AsyncAPI](https://www.asyncapi.com) {document['asyncapi']} document: [asyncapi.json](asyncapi.json), which"
    yield "`sre-domain asyncapi` prints too. It is made from the same registry that the worker decides by, with every Avro schema written"
    yield "out, and tests hold it to AsyncAPI's own parser. What `sre-domain` receives there, you send.\n"
    actions = {operation["channel"]["$ref"].rpartition("/")[2]: operation["action"] for operation in document["operations"].values()}
    rows = [(f"`{channel['address']}`", actions[name], _links(channel["messages"])) for name, channel in document["channels"].items()]
    yield from table(("Channel", "sre-domain", "Messages"), rows)
    yield ""
    counts = Counter(actions.values())
    messages = len(document["components"]["messages"])
    yield f"{counts['receive']} channels of intents, {counts['send']} of facts and rejections, {messages} messages."
    yield "Servers are not in it: they are yours ([settings](../settings.md), [transport](../transport.md)).\n"


def _links(names: Iterable[str]) -> str:
    return ", ".join(f"[{name}](messages.md#{name.lower()})" for name in names)
