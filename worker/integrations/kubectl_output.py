"""Kubernetes objects as `kubectl -o json` and `-o yaml` print them: one, a list, watch events; in one document or in several.

Argo CD's API prints the same objects without apiVersion and kind, and its watch events as {"result": {"type", "application"}}.
Sources: Kubernetes, "API Concepts" (lists, chunks, watch events); Argo CD, swagger.json (v1alpha1ApplicationWatchEvent).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml

from worker.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES: Final = 64 << 20
MAX_SEPARATORS: Final = 8_000_000  # real output has half as many in 64 MiB; small values alone would take gigabytes

DELETED: Final = "DELETED"
CHANGES: Final = ("ADDED", "MODIFIED", DELETED)

_YAML_NULLS: Final = ("", "~", "null", "Null", "NULL")
_YAML_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class KubectlOutputError(WorkerError):
    """The input is broken, or is not what kubectl prints; the message names the line or the item."""


@dataclass(frozen=True, slots=True)
class Item:
    """An object, and the type of the watch event that told of it: one of CHANGES, or BOOKMARK or ERROR. `number` counts from 1."""

    number: int
    event: str | None
    object: dict[str, Any]

    def broken(self, why: str) -> KubectlOutputError:
        return KubectlOutputError(f"item {self.number}: {why}")


def read_items(data: bytes) -> list[Item]:
    """Every object, in order. Raises KubectlOutputError, whatever the bytes are."""
    if len(data) > MAX_BYTES:
        raise KubectlOutputError(f"is larger than {MAX_BYTES >> 20} MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise KubectlOutputError(f"is not UTF-8 from byte {error.start} on") from None
    if sum(map(text.count, ",:-[{")) > MAX_SEPARATORS:
        raise KubectlOutputError(f"has more than {MAX_SEPARATORS} values")
    try:
        documents = list(_json_documents(text) if text.lstrip()[:1] in ("{", "[") else _yaml_documents(text))
        values = [value for document in documents for value in _unlisted(document)]
    except RecursionError:
        raise KubectlOutputError("is nested too deeply") from None
    if not documents:
        raise KubectlOutputError("is empty")
    if _continued(documents[-1]):
        raise KubectlOutputError("is one page of a longer list: list all of it")
    return [_item(number, value) for number, value in enumerate(values, 1)]


def _unlisted(document: object) -> Iterator[object]:
    if isinstance(document, list):
        for value in document:
            yield from _unlisted(value)
    elif isinstance(document, dict) and isinstance(document.get("items", ...), list | None):
        yield from document["items"] or ()
    else:
        yield document


def _continued(document: object) -> bool:
    metadata = document.get("metadata") if isinstance(document, dict) and "items" in document else None
    return isinstance(metadata, dict) and bool(metadata.get("continue"))


def _item(number: int, value: object) -> Item:
    if isinstance(value, dict) and isinstance(value.get("result"), dict):
        value = value["result"]
    if not isinstance(value, dict):
        raise KubectlOutputError(f"item {number}: must be an object")
    event = value.get("type")
    if not isinstance(event, str) or not value.keys() & {"object", "application"}:
        return Item(number, None, value)
    held = value.get("object", value.get("application"))
    if not isinstance(held, dict):
        raise KubectlOutputError(f"item {number}: must hold an object")
    return Item(number, event, held)


def _json_documents(text: str) -> Iterator[object]:
    decoder = json.JSONDecoder()
    at = _behind_space(text, 0)
    while at < len(text):
        try:
            document, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise KubectlOutputError(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
        except ValueError as error:  # a number of more digits than Python reads
            raise KubectlOutputError(str(error)) from None
        yield document
        at = _behind_space(text, at)


def _behind_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _yaml_documents(text: str) -> Iterator[object]:
    """The documents that are not null. Scalars stay the text that they are: what YAML 1.1 takes for a time or a truth is no matter here."""
    try:
        events = yaml.parse(text, Loader=_YAML_LOADER)
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                document = _yaml_value(events, next(events))
                if document is not None:
                    yield document
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise KubectlOutputError(f"{where}{error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise KubectlOutputError(" ".join(str(error).split())) from None


def _yaml_value(events: Iterator[yaml.Event], event: yaml.Event) -> object:
    if getattr(event, "anchor", None) is not None:  # an alias a line could stand for gigabytes; kubectl prints none
        raise KubectlOutputError(f"{_line(event)}: anchors and aliases are not read")
    match event:
        case yaml.ScalarEvent(value=value, implicit=(plain, _)):
            return None if plain and value in _YAML_NULLS else value
        case yaml.SequenceStartEvent():
            items = []
            while not isinstance(event := next(events), yaml.SequenceEndEvent):
                items.append(_yaml_value(events, event))
            return items
        case yaml.MappingStartEvent():
            fields: dict[str, object] = {}
            while not isinstance(event := next(events), yaml.MappingEndEvent):
                if not isinstance(event, yaml.ScalarEvent):
                    raise KubectlOutputError(f"{_line(event)}: a field's name must be text")
                fields[event.value] = _yaml_value(events, next(events))
            return fields
    raise AssertionError(f"{event} begins no value")  # the parser answers for that


def _line(event: yaml.Event) -> str:
    return f"line {event.start_mark.line + 1}" if event.start_mark else "somewhere"
