"""`sre-domain publish` and `facts`, and what `rejected` prints by itself: the bus for people, as JSON lines."""

from __future__ import annotations

import json
import signal
import sys
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from worker.client import Outgoing, intent_from_fields, read_committed, to_outgoing
from worker.client import publish as publish_records
from worker.domain.aggregate import AGGREGATES
from worker.domain.fields import parse_rfc3339
from worker.domain.rejection import Rejection
from worker.envelope import TYPE_PREFIX
from worker.errors import WorkerError
from worker.logs import only_errors_of_ours
from worker.messages import fact_as_json, rejection_as_json
from worker.printable import printable, printable_json
from worker.registry import codec_of
from worker.settings import KafkaSettings
from worker.topics import REJECTED_TOPIC, facts_topic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from confluent_kafka import Message

    from worker.codec import Codec

SOURCE: Final = "/sre-domain/cli"
_KNOWN: Final = {"type", "tenant", "id", "time", "key", "data"}

FromBeginning = Annotated[bool, typer.Option("--from-beginning", help="Start with the oldest; else with what comes from now on.")]
Follow = Annotated[bool, typer.Option("--follow", help="Go on as more come; always so without --from-beginning.")]


class LineError(WorkerError):
    """A line of the input is not an intent; nothing was sent."""


def publish(
    file: Annotated[typer.FileBinaryRead, typer.Argument(help="JSON lines {type, tenant, key, data, id?, time?}; - reads standard input.")],
) -> None:
    """Send intents. All lines are validated first: where one is wrong, each fault is named and nothing is sent."""
    only_errors_of_ours()
    settings = KafkaSettings.from_environment()
    codec = codec_of(settings)
    faults: list[str] = []
    records = []
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            records.append(outgoing_from_line(line.decode(), codec))
        except UnicodeError:
            faults.append(f"line {number}: is not UTF-8, or holds half a surrogate pair")
        except ValueError as error:
            faults.append(printable(f"line {number}: {error}"))
    if faults:
        raise LineError("\n".join(faults))
    count = publish_records(settings, records)
    typer.echo(f"{count} intent{'' if count == 1 else 's'} published", err=True)


def facts(
    aggregate: Annotated[str | None, typer.Option(help=f"One of: {', '.join(AGGREGATES)}; else all.")] = None,
    from_beginning: FromBeginning = False,  # noqa: FBT002 - a command-line flag
    follow: Follow = False,  # noqa: FBT002 - a command-line flag
) -> None:
    """Print facts as JSON lines, committed ones only; in order within an aggregate."""
    if aggregate is not None and aggregate not in AGGREGATES:
        raise typer.BadParameter(f"must be one of {', '.join(AGGREGATES)}", param_hint="--aggregate")
    topics = [facts_topic(name) for name in ([aggregate] if aggregate else AGGREGATES)]
    settings = KafkaSettings.from_environment()
    codec = codec_of(settings)
    _print_each(_messages(settings, topics, from_beginning=from_beginning, follow=follow), partial(fact_as_json, codec=codec))


def print_rejected(*, from_beginning: bool, follow: bool) -> None:
    """Print refused intents as JSON lines, with the reason and the record as it was received."""
    settings = KafkaSettings.from_environment()
    messages = _messages(settings, [REJECTED_TOPIC], from_beginning=from_beginning, follow=follow)
    _print_each(messages, partial(rejection_as_json, codec=codec_of(settings)))


def outgoing_from_line(line: str, codec: Codec) -> Outgoing:
    """One line of `publish`. Raises ValueError, which names every field at fault."""
    given = _json_of(line)
    if not isinstance(given, dict):
        raise ValueError("must be a JSON object")  # noqa: TRY004 - all faults of a line are values
    missing = [name for name in ("type", "tenant", "key", "data") if name not in given]
    unknown = sorted(set(given) - _KNOWN)
    if missing or unknown:
        raise ValueError("; ".join([f"{name}: is missing" for name in missing] + [f"{name}: is not known" for name in unknown]))
    texts = {name: value for name, value in given.items() if name != "data"}
    wrong = [f"{name}: must be a string" for name, value in texts.items() if not isinstance(value, str) or not value]
    if not isinstance(given["data"], dict):
        wrong.append("data: must be an object")
    if wrong:
        raise ValueError("; ".join(wrong))
    rest: dict[str, Any] = {"intent_id": texts["id"]} if "id" in texts else {}
    if "time" in texts:
        try:
            rest["time"] = parse_rfc3339(texts["time"])
        except ValueError as error:
            raise ValueError(f"time: {error}") from None
    name = texts["type"].removeprefix(TYPE_PREFIX).removesuffix("Requested") + "Requested"
    try:
        intent = intent_from_fields(name, texts["tenant"], texts["key"], given["data"], source=SOURCE, **rest)
    except KeyError:
        raise ValueError(f"type: {texts['type']} is not an intent") from None
    if isinstance(intent, Rejection):
        raise ValueError("; ".join(f"{_where(fault.field)}: {fault.message}" for fault in intent.violations))  # noqa: TRY004
    return to_outgoing(intent, codec)


def _json_of(line: str) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(line, parse_float=Decimal)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error}") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _where(field: str) -> str:
    return {"ce_subject": "key", "ce_tenantid": "tenant", "ce_id": "id"}.get(field, f"data.{field}")


def _messages(settings: KafkaSettings, topics: list[str], *, from_beginning: bool, follow: bool) -> Iterator[Message]:
    only_errors_of_ours()
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))  # Ctrl-C is how following ends
    stopped = (lambda: False) if follow or not from_beginning else None
    return read_committed(settings, topics, from_beginning=from_beginning, stopped=stopped)


def _print_each(messages: Iterable[Message], as_json: Callable[[Message], dict[str, object]]) -> None:
    """What can't be read is said on stderr and passed over: one such record hides nothing of those behind it."""
    for message in messages:
        try:
            item = as_json(message)
        except ValueError as error:
            place = f"{message.topic()}/{message.partition()}/{message.offset()}"
            typer.echo(printable(f"passed over: {place} can't be read: {error}"), err=True)
        else:
            _print(item)


def _print(item: dict[str, object]) -> None:
    sys.stdout.write(printable_json(item) + "\n")
    sys.stdout.flush()
