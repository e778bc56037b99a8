"""One rejection as text for people; whatever its bytes are, the terminal gets printable characters only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from pydantic_core import to_jsonable_python

from worker.codec import DecodeError
from worker.domain.fields import format_rfc3339
from worker.printable import printable
from worker.registry import RegistryAwayError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.codec import Codec
    from worker.dead_letters.letters import Letter

_SHOWN_BYTES: Final = 256
_BYTES_A_LINE: Final = 32


def page_of(letter: Letter, codec: Codec) -> str:
    """Lines; no trailing line end but that of the last block."""
    return "\n".join(_lines(letter, codec)) + "\n"


def _lines(letter: Letter, codec: Codec) -> Iterator[str]:
    refused = letter.rejection
    yield f"rejection  {printable(letter.rejection_id)}"
    yield f"published  {format_rfc3339(letter.time)}"
    yield f"code       {printable(refused.code)}"
    yield f"message    {printable(refused.message)}"
    yield from (f"  {printable(fault.field)}: {printable(fault.message)}" for fault in refused.violations)
    yield f"intent     {printable(letter.intent_id or '-')}"
    yield f"its id     {'is used up' if letter.used_up_id else 'is not used up by this'}"
    yield f"tenant     {printable(letter.tenant_id or '-')}"
    yield f"record     {printable(letter.position)}, {format_rfc3339(refused.broker_timestamp)}"
    yield f"key        {_bytes(refused.key)}"
    yield "headers"
    yield from (f"  {printable(header.name)}: {_bytes(header.value)}" for header in refused.headers)
    yield from _value(letter, codec)


def _value(letter: Letter, codec: Codec) -> Iterator[str]:
    value, size = letter.rejection.value, letter.rejection.value_size
    if value is None:
        yield "value      null"
        return
    yield f"value      {size} bytes, SHA-256 {printable(letter.rejection.value_sha256)}"
    if letter.is_cut:
        yield f"  only the first {len(value)} are here; the whole lies at its position for as long as that topic keeps it"
    else:
        try:
            fields = codec.decode(letter.type, value)
        except (DecodeError, RegistryAwayError) as error:
            yield f"  {printable(str(error))}"
        else:
            decoded = json.dumps(to_jsonable_python(fields, bytes_mode="base64"), indent=2)  # ASCII, so without anything to obey
            yield from (f"  {line}" for line in decoded.splitlines())
            return
    yield from (f"  {value[start : start + _BYTES_A_LINE].hex(' ')}" for start in range(0, min(len(value), _SHOWN_BYTES), _BYTES_A_LINE))
    if len(value) > _SHOWN_BYTES:
        yield f"  and {len(value) - _SHOWN_BYTES} bytes more"


def _bytes(value: bytes | None) -> str:
    """Text where it is UTF-8, else hex; long ones cut."""
    if value is None:
        return "null"
    shown, more = value[:_SHOWN_BYTES], f" ... {len(value)} bytes" if len(value) > _SHOWN_BYTES else ""
    try:
        return printable(shown.decode()) + more
    except UnicodeDecodeError:
        return f"hex {shown.hex(' ')}{more}"
