"""A Confluent-compatible schema registry: the text of a schema by its id, which framed intents carry."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from worker.codec import WriterOfId

_TIMEOUT_SECONDS: Final = 5
_NOT_FOUND: Final = (404, 422)


class RegistryAwayError(OSError):
    """The registry does not answer; whatever needs it waits."""


def writer_of_id(url: str) -> WriterOfId:
    """Look-ups that are kept, since an id never changes its schema; KeyError for an unknown id, RegistryAwayError for no answer."""
    from confluent_kafka.schema_registry import SchemaRegistryClient  # noqa: PLC0415 - a third of every command's start, and few have a registry
    from confluent_kafka.schema_registry.error import SchemaRegistryError  # noqa: PLC0415

    client = SchemaRegistryClient({"url": url, "timeout": _TIMEOUT_SECONDS, "max.retries": 1})

    @lru_cache(maxsize=1024)
    def schema_text(schema_id: int) -> str:
        try:
            text = client.get_schema(schema_id).schema_str
        except SchemaRegistryError as error:
            if error.http_status_code in _NOT_FOUND:
                raise KeyError(schema_id) from None
            raise RegistryAwayError(f"the schema registry answers {error.http_status_code}") from error
        except Exception as error:
            raise RegistryAwayError(f"the schema registry does not answer: {type(error).__name__}") from error
        if text is None:
            raise KeyError(schema_id)
        return text

    return schema_text
