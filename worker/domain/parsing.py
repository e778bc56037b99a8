"""Check 8: a decoded value becomes a command, or a rejection that names every field of the wrong shape or size."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from worker.domain.aggregate import Aggregate
from worker.domain.rejection import Rejection, RejectionCode, refuse_fields


def parse_command(aggregate: Aggregate, intent: str, fields: Mapping[str, object], subject: str) -> Any | Rejection:  # noqa: ANN401
    """Shapes decide before sizes. `fields` is a decoded Avro datum or JSON object."""
    faults: list[tuple[str, str, str]] = []
    try:
        aggregate.check_id(subject)
    except PydanticCustomError as error:
        faults.append((error.type, "ce_subject", error.message()))
    command = parse_fields(aggregate.intents[intent], fields, faults)
    if not faults:
        return command
    deciding = min((code for code, _, _ in faults), key=_ORDER.__getitem__)
    return refuse_fields(RejectionCode(deciding), {field: message for code, field, message in faults if code == deciding})


def parse_fields(adapter: TypeAdapter[Any], fields: Mapping[str, object], faults: list[tuple[str, str, str]]) -> Any | None:  # noqa: ANN401
    """The value, or None after adding (code, field, message) of every fault."""
    try:
        return adapter.validate_python(fields)
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_context=False, include_input=False):
            code = fault["type"] if fault["type"] in _ORDER else RejectionCode.SCHEMA_INVALID
            faults.append((code, _path(fault["loc"]), fault["msg"]))
        return None


_ORDER: dict[str, int] = {RejectionCode.SCHEMA_INVALID: 0, RejectionCode.LIMIT_EXCEEDED: 1}


def _path(location: tuple[int | str, ...]) -> str:
    """A field's place as violations name it: `sli_spec.good`, `steps[2].step_id`."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path
