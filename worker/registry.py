"""A Confluent-compatible schema registry: whose schema an id names, and the ids of our own.

Ids never change their schema, so an answer is kept; that there is no such id is not kept, since it may be given out next.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property, partial
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from worker.codec import CONFLUENT, ID_BYTES, SINGLE_OBJECT, SchemaUnseenError, fingerprint, load_codec
from worker.errors import WorkerError
from worker.subjects import subject_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from confluent_kafka.schema_registry import SchemaRegistryClient

    from worker.codec import Codec
    from worker.settings import KafkaSettings, RegistrySettings

_TIMEOUT_SECONDS: Final = 5
_NO_SUCH_THING: Final = range(40_401, 40_500)  # a registry's own 404; another's, a proxy's say, is no answer
_REFUSED: Final = (409, 422)
_END_OF_IDS: Final = 2**31  # they are Java's int
_LONGEST_TEXT: Final = 100_000  # of a schema that can be ours, with a page of descriptions: the longest has 3,500 characters
_MOST_OTHERS: Final = 10_000
LEVEL: Final = "BACKWARD_TRANSITIVE"

T = TypeVar("T")


class RegistryError(WorkerError):
    """What was to be had of the schema registry is not to be had now."""


class RegistryAwayError(RegistryError, OSError):
    """The schema registry does not answer, or not to us; whatever needs it waits."""


class SchemaNotRegisteredError(RegistryError):
    """The registry lacks a schema that is to be written with."""


class SchemaRefusedError(RegistryError):
    """The registry does not take a schema: it is not what its earlier versions allow."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A version of a subject; `text` is the schema as the registry has it."""

    schema_id: int
    text: str


class Registry:
    """Each method asks over HTTP, for at most about ten seconds. Raises RegistryAwayError."""

    def __init__(self, settings: RegistrySettings) -> None:
        self._settings = settings

    def text_of(self, schema_id: int) -> str | None:
        """None where it has no such id."""
        try:
            schema = self._ask(lambda client: client.get_schema(schema_id))
        finally:
            cast("Any", self._client).clear_caches()  # they have no bound, and we keep what we need
        return None if schema is None else schema.schema_str or ""

    def versions(self, subject: str) -> Iterator[Registered]:
        """The latest first, each asked for when it is its turn; none where it does not know the subject."""
        numbers: list[int] = self._ask(lambda client: client.get_versions(subject)) or []
        for number in sorted(numbers, reverse=True):
            found: Any = self._ask(partial(_version, subject, number))
            if found is not None:
                yield Registered(found.schema_id, found.schema.schema_str)

    def level(self, subject: str) -> str | None:
        """The subject's own compatibility level; None where it has none."""
        return self._ask(lambda client: client.get_compatibility(subject))

    def set_level(self, subject: str) -> None:
        self._ask(lambda client: client.set_compatibility(subject, LEVEL))

    def accepts(self, subject: str, text: str) -> bool:
        """Whether the schema is compatible with every version of a subject that exists, by the registry's own rules."""
        return bool(self._ask(lambda client: client.test_compatibility_all_versions(subject, _avro(text))))

    def register(self, subject: str, text: str) -> int:
        """Raises SchemaRefusedError too."""
        schema_id: Any = self._ask(lambda client: client.register_schema(subject, _avro(text)), _REFUSED)
        return int(schema_id)

    @cached_property
    def _client(self) -> SchemaRegistryClient:
        from confluent_kafka.schema_registry import SchemaRegistryClient  # noqa: PLC0415 - a third of every command's start, and few have one

        return SchemaRegistryClient(client_config(self._settings))

    def _ask(self, question: Callable[[Any], T], refusals: Collection[int] = ()) -> T | None:
        """None where there is no such thing. Raises SchemaRefusedError for these statuses."""
        from confluent_kafka.schema_registry.error import SchemaRegistryError  # noqa: PLC0415

        try:
            return question(self._client)
        except SchemaRegistryError as error:
            if error.error_code in _NO_SUCH_THING:
                return None
            if error.http_status_code in refusals:
                raise SchemaRefusedError(f"the schema registry refuses it: {_one_line(error.error_message)}") from None
            raise RegistryAwayError(f"the schema registry answers {error.http_status_code}") from None
        except Exception as error:
            raise RegistryAwayError(f"the schema registry does not answer: {type(error).__name__}") from error


class WriterIds:
    """Fingerprints of writer schemas by the registry's ids, for all threads. Ours stay for good, of others the latest ten thousand."""

    def __init__(self, text_of: Callable[[int], str | None], ours: Collection[bytes]) -> None:
        self._text_of, self._ours = text_of, ours
        self._writers: dict[int, bytes] = {}
        self._others: dict[int, bytes | None] = {}
        self._learning = Lock()

    def known(self, schema_id: int) -> bytes | None:
        """Without asking. Raises SchemaUnseenError, and KeyError for what can be no id."""
        if schema_id >= _END_OF_IDS:
            raise KeyError(schema_id)
        writer = self._writers.get(schema_id)
        if writer is not None:
            return writer
        try:
            return self._others[schema_id]
        except KeyError:
            raise SchemaUnseenError(schema_id) from None

    def asked(self, schema_id: int) -> bytes | None:
        """Asks where it is not known. Raises KeyError where the registry has no such id, and RegistryAwayError."""
        try:
            return self.known(schema_id)
        except SchemaUnseenError:
            text = self._text_of(schema_id)
            if text is None:
                raise KeyError(schema_id) from None
            return self._learn(schema_id, writer_of(text))

    def _learn(self, schema_id: int, writer: bytes | None) -> bytes | None:
        with self._learning:
            if writer is not None and writer in self._ours:
                self._writers[schema_id] = writer
            else:
                if len(self._others) >= _MOST_OTHERS:
                    del self._others[next(iter(self._others))]
                self._others[schema_id] = writer
        return writer


class _Headers(dict[str, bytes]):
    """Headers of Confluent framing by record, each looked up once; `own` are those of single-object encoding."""

    def __init__(self, registry: Registry, own: Mapping[str, bytes]) -> None:
        super().__init__()
        self._registry, self._own = registry, own

    def __missing__(self, record: str) -> bytes:
        schema_id = own_id(self._registry, record, self._own[record].removeprefix(SINGLE_OBJECT))
        self[record] = header = CONFLUENT + schema_id.to_bytes(ID_BYTES, "big")
        return header


def codec_of(settings: KafkaSettings) -> Codec:
    """The codec of a program that may wait for the registry: it asks when it meets an id or a record for the first time."""
    return _codec(settings)[0]


def worker_codec(settings: KafkaSettings) -> tuple[Codec, WriterIds | None]:
    """The codec of the worker, which does not ask while it decodes, and whom to ask instead, where there is a registry."""
    codec, ids = _codec(settings)
    return (codec, None) if ids is None else (replace(codec, writer_of_id=ids.known), ids)


def own_id(registry: Registry, record: str, own: bytes) -> int:
    """The registry's id of the schema with this fingerprint, whatever is said in its descriptions.

    Raises SchemaNotRegisteredError and RegistryAwayError.
    """
    subject = subject_of(record)
    for version in registry.versions(subject):
        if writer_of(version.text) == own:
            return version.schema_id
    raise SchemaNotRegisteredError(f"the schema registry lacks this version's schema of {record}: sre-domain schemas register")


def writer_of(text: str) -> bytes | None:
    """The fingerprint of a registry's schema; None where it is no Avro record, or longer than any of ours."""
    try:
        return fingerprint({**json.loads(text)}) if len(text) <= _LONGEST_TEXT else None
    except Exception:  # noqa: BLE001 - the text is as little ours as a record is
        return None


def client_config(settings: RegistrySettings) -> dict[str, Any]:
    config: dict[str, Any] = {"url": settings.schema_registry_url, "timeout": _TIMEOUT_SECONDS, "max.retries": 1, "retries.wait.ms": 200}
    if settings.schema_registry_username is not None and settings.schema_registry_password is not None:
        password = settings.schema_registry_password.get_secret_value()
        config["basic.auth.user.info"] = f"{settings.schema_registry_username}:{password}"
    if settings.schema_registry_ca_file is not None:
        config["ssl.ca.location"] = settings.schema_registry_ca_file
    return config


def _codec(settings: KafkaSettings) -> tuple[Codec, WriterIds | None]:
    codec = load_codec()
    if settings.schema_registry_url is None:
        return codec, None
    registry = Registry(settings)
    ids = WriterIds(registry.text_of, {writer for _, writer in codec.released})
    headers = _Headers(registry, codec.headers) if settings.encoding == "confluent" else codec.headers
    return replace(codec, headers=headers, writer_of_id=ids.asked), ids


def _version(subject: str, number: int, client: SchemaRegistryClient) -> object:
    return client.get_version(subject, number)


def _avro(text: str) -> Any:  # noqa: ANN401 - its module is loaded where a registry is asked
    from confluent_kafka.schema_registry import Schema  # noqa: PLC0415

    return Schema(text, "AVRO")


def _one_line(text: str) -> str:
    return " ".join(str(text).split())
