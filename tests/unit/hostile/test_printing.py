"""What commands print and services log: nothing that a terminal obeys, and a record is one line."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, cast

import pytest

from tests.fuzz.targets.printing import assert_lines
from tests.support.hostile import TEXTS
from tests.support.records import CODEC
from worker.cli import bus, main
from worker.cli.main import _OBEYED
from worker.errors import WorkerError
from worker.integrations.alertmanager_bridge import _refuse
from worker.logs import OneLine, log_to_stderr
from worker.messages import fact_as_json
from worker.printable import printable, printable_json

if TYPE_CHECKING:
    from aiohttp import web
    from confluent_kafka import Message

HOSTILE = pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in TEXTS.items()])


@HOSTILE
def test_a_log_record_is_one_line_and_its_traceback_is_indented(text: str) -> None:
    assert_lines(text)


@HOSTILE
def test_json_for_people_is_the_same_value_and_printable(text: str) -> None:
    line = printable_json({text: [text]})
    assert line.isprintable()
    assert json.loads(line) == {text: [text]}


def test_services_log_through_that_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    log_to_stderr()
    assert [type(handler.formatter) for handler in logging.getLogger().handlers] == [OneLine]


@HOSTILE
@pytest.mark.parametrize("arguments", [("query", "get-slo"), ("rejected", "show"), ("rejected", "list", "--since"), ("x",)])
def test_an_argument_that_a_terminal_would_obey_is_not_repeated_to_it(
    text: str, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sre-domain", *arguments, f"--{text}"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code != 0
    assert _OBEYED.search("".join(capsys.readouterr())) is None


@HOSTILE
def test_an_error_is_printable_whatever_it_quotes(text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise WorkerError(text)

    monkeypatch.setattr(sys.modules["worker.cli.main"], "app", fail)  # the package's own `main` hides the module
    monkeypatch.setattr(sys, "argv", ["sre-domain"])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err.translate({ord("\n"): None}).isprintable()


class Garbage:
    """A message that is no fact."""

    def headers(self) -> list[tuple[str, bytes]]:
        return [("ce_id\x1b[31m", b"\xff")]

    def value(self) -> bytes:
        return b"\x1b[31m"

    def topic(self) -> str:
        return "sre.slo.facts.v1"

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return 4711


def test_what_is_no_fact_hides_none_of_those_behind_it(capsys: pytest.CaptureFixture[str]) -> None:
    garbage = cast("Message", Garbage())

    def as_json(message: Message) -> dict[str, object]:
        return fact_as_json(message, CODEC) if message is garbage else {"id": "\x9b31m"}

    bus._print_each([garbage, cast("Message", object())], as_json)
    told = capsys.readouterr()
    assert told.out == '{"id": "\\u009b31m"}\n'
    assert told.err.startswith("passed over: sre.slo.facts.v1/3/4711 can't be read: ")
    assert told.err.strip("\n").isprintable()


@pytest.mark.parametrize(
    "line",
    ["[" * 100_000, '{"a":' * 50_000, "1e999999999", "1" * 5_000, "NaN", '{"type": "x\\nline 2", "tenant": "a", "key": "k", "data": {}}'],
)
def test_a_line_to_publish_that_is_none_is_said_to_be(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        bus.outgoing_from_line(line, CODEC)


@pytest.mark.parametrize(
    "number", ["1e999999999", "-1e999999999", "1e-999999999", "NaN", "Infinity", "0." + "9" * 4_000, "9" * 4_000, '"1e5"', "true"]
)
def test_a_number_of_any_size_is_no_percent(number: str) -> None:
    data = (
        f'{{"name": "n", "target": {number}, "window": "7d", "sli_spec": {{"good": "g", "total": "t", "budgeting_method": "occurrences"}}}}'
    )
    with pytest.raises(ValueError, match=r"data\.target: "):
        bus.outgoing_from_line(f'{{"type": "CreateSLO", "tenant": "acme", "key": "checkout", "data": {data}}}', CODEC)


def test_the_bridge_logs_a_strangers_label_on_one_line(caplog: pytest.LogCaptureFixture) -> None:
    class Request:
        remote = "127.0.0.1"

    _refuse(cast("web.Request", Request()), 400, f"alerts[0].labels: {TEXTS['log']} must be text")
    (record,) = caplog.records
    assert OneLine("%(message)s").format(record).isprintable()


def test_half_a_surrogate_pair_is_printable() -> None:
    assert printable("\ud800") == "\\ud800"
