"""YAML (and JSON) taken apart by hand, so that each fault has its line: documents, and the mappings in them.

What could make a small file large, anchors above all, is refused. Numbers and dates stay text, as they are written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MAX_BYTES: Final = 4 << 20
_MAX_NODES: Final = 300_000  # what 4 MiB of real documents hold; short ones would take a gigabyte of memory
_MAX_DEPTH: Final = 100
_LONGEST_TYPO: Final = 40
_MOST_GUESSES: Final = 100  # of a document: what a key was meant to be takes long to find
_SHOWN: Final = 500
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # wheels have the fast one


@dataclass(frozen=True, slots=True)
class Note:
    """What there is to say of a document, and where; `name` is the object's, or that of the document where it has none."""

    file: str
    line: int
    name: str
    text: str

    def __str__(self) -> str:
        line = f"{self.file}:{self.line}: {self.name[:_SHOWN]}: {self.text[:_SHOWN]}"
        return "".join(character if character.isprintable() else " " for character in line)


@dataclass(slots=True)
class Document:
    """A document as it is taken apart: what it was found to lack, in `faults`, does not end the search for more."""

    file: str
    root: yaml.Node
    name: str
    faults: list[Note] = field(default_factory=list)

    def note(self, node: yaml.Node, text: str) -> Note:
        return Note(self.file, node.start_mark.line + 1, self.name, text)

    def refuse(self, node: yaml.Node, text: str) -> None:
        self.faults.append(self.note(node, text))


@dataclass(frozen=True, slots=True)
class Part:
    """A mapping inside a document: its own node, its path for people, and its values and key nodes by key; null values are absent."""

    document: Document
    node: yaml.Node
    path: str
    values: Mapping[str, yaml.Node]
    keys: Mapping[str, yaml.Node]

    def at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def refuse(self, key: str, text: str) -> None:
        """A fault of the value at `key`, or of its absence."""
        self.document.refuse(self.keys.get(key, self.node), f"{self.at(key)}: {text}")

    def text(self, key: str, *, required: bool = True) -> str | None:
        """A scalar as it is written."""
        node = self.values.get(key)
        if isinstance(node, yaml.ScalarNode):
            return str(node.value)
        if node is not None or required:
            self.refuse(key, "is missing" if node is None else "must be a single value")
        return None

    def part(self, key: str, known: Sequence[str] = (), *, required: bool = True) -> Part | None:
        node = self.values.get(key)
        if node is None:
            if required:
                self.refuse(key, "is missing")
            return None
        return part_of(self.document, node, self.at(key), known)

    def only_item(self, key: str, known: Sequence[str], instead: str) -> Part | None:
        """The one item of a list that may have no more."""
        node = self.values.get(key)
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            self.refuse(key, f"is missing: {instead}" if node is None else f"must be a list of one item: {instead}")
            return None
        if len(node.value) > 1:
            self.document.refuse(node.value[1], f"{self.at(key)}: has {len(node.value)} items, and only one is supported: {instead}")
            return None
        return part_of(self.document, node.value[0], f"{self.at(key)}[0]", known)


def plain(node: yaml.Node) -> object:
    if isinstance(node, yaml.MappingNode):
        return {_key(key): plain(value) for key, value in node.value}
    return [plain(item) for item in node.value] if isinstance(node, yaml.SequenceNode) else node.value


def part_of(document: Document, node: yaml.Node, path: str, known: Sequence[str] = ()) -> Part | None:
    """A mapping, whose keys are all `known` where some are given."""
    if not isinstance(node, yaml.MappingNode):
        document.refuse(node, f"{path or 'the document'}: must be a mapping")
        return None
    values: dict[str, yaml.Node] = {}
    keys: dict[str, yaml.Node] = {}
    for key, value in node.value:
        name = _key(key)
        where = f"{path}.{name}" if path else name
        if name in values:
            document.refuse(key, f"{where}: is given twice")
        elif known and name not in known:
            meant = get_close_matches(name, known, 1) if len(name) <= _LONGEST_TYPO and len(document.faults) < _MOST_GUESSES else ()
            document.refuse(key, f"{where}: is not known" + (f": {meant[0]} is meant?" if meant else ""))
        elif value.tag != "tag:yaml.org,2002:null":
            values[name] = value
            keys[name] = key
    return Part(document, node, path, values, keys)


class UnreadableError(Exception):
    """A file that is no YAML, or that this reader will not take."""

    def __init__(self, text: str, line: int = 1) -> None:
        super().__init__(text)
        self.line = line


def read_documents(file: str, content: bytes) -> Iterator[Document]:
    """The documents of a file, and the items of those that are lists."""
    if len(content) > MAX_BYTES:
        raise UnreadableError(f"is larger than {MAX_BYTES >> 20} MiB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError("is not UTF-8", content.count(b"\n", 0, error.start) + 1) from None
    if file.endswith(".json"):
        text = text.replace("\t", " ")  # white space to JSON, an error to YAML; no string of JSON holds one
    try:
        _refuse_bombs(text)
        roots = [root for root in yaml.compose_all(text, _LOADER) if root is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = " ".join(part for part in (error.context, error.problem) if part)
        raise UnreadableError(f"is not YAML: {reason}", mark.line + 1 if mark else 1) from None
    except yaml.reader.ReaderError as error:
        raise UnreadableError(f"is not YAML: {error.reason}", text.count("\n", 0, error.position) + 1) from None
    number = 0
    for root in roots:
        for node in root.value if isinstance(root, yaml.SequenceNode) else [root]:
            number += 1
            if node.tag != "tag:yaml.org,2002:null":
                yield Document(file, node, _name(node) or f"document {number}")


def _refuse_bombs(text: str) -> None:
    depth = 0
    for number, event in enumerate(yaml.parse(text, _LOADER)):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise UnreadableError("anchors and aliases are not supported: write the value out", line)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH:
            raise UnreadableError(f"is nested more than {_MAX_DEPTH} levels deep", line)
        if number > _MAX_NODES:
            raise UnreadableError(f"has more than {_MAX_NODES} values", line)


def _key(node: yaml.Node) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else "?"


def _name(node: yaml.Node) -> str | None:
    metadata = _value(node, "metadata")
    name = None if metadata is None else _value(metadata, "name")
    return name.value if isinstance(name, yaml.ScalarNode) and name.value else None


def _value(node: yaml.Node, key: str) -> Any:  # noqa: ANN401 - a node, or None
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for name, value in pairs if _key(name) == key), None)
