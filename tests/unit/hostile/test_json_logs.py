"""JSON log lines: one object a line, whatever is in a record, and the ids of the intent that it is about."""

from __future__ import annotations

import json
import logging
import sys
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.batches import batch_of
from tests.support.records import Topic, create
from worker.logs import _json_lines, log_to_stderr
from worker.settings import LogSettings
from worker.telemetry.batch_line import log_batch
from worker.trace_context import about

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NASTY = "a\nb\r\x1b[31mred\x00\x9b\u2028\u202e \"quoted\" \\ 日本 {'level': 'x'}"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    root, stderr = logging.getLogger(), StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(root, "handlers", [])
    ours = logging.getLogger("worker")
    level, root_level = ours.level, root.level
    log_to_stderr(LogSettings(log_format="json", log_level="debug"))

    def read() -> list[dict[str, Any]]:
        text = stderr.getvalue()
        assert all(character.isprintable() or character == "\n" for character in text)
        return [json.loads(line) for line in text.splitlines()]

    yield read
    ours.setLevel(level)
    root.setLevel(root_level)


def test_whatever_is_in_it_a_record_is_one_line(lines: Callable[[], list[dict[str, Any]]]) -> None:
    logging.getLogger("worker.test").warning("%s", NASTY, extra={"intent_id": NASTY, "other": "left out"})
    [line] = lines()
    assert line.pop("time").endswith("Z")
    assert line == {"level": "warning", "logger": "worker.test", "message": NASTY, "intent_id": NASTY}


def test_half_a_surrogate_pair_is_escaped() -> None:
    line = _json_lines().format(logging.makeLogRecord({"name": "worker.test", "levelname": "INFO", "msg": "\ud800"}))
    assert "\\ud800" in line
    assert json.loads(line)["message"] == "\ud800"


def test_a_traceback_is_in_its_line(lines: Callable[[], list[dict[str, Any]]]) -> None:
    try:
        json.loads(NASTY)
    except ValueError:
        logging.getLogger("worker.test").exception("it failed")
    [line] = lines()
    assert line["message"] == "it failed"
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert "JSONDecodeError" in line["exception"]


def test_a_batch_of_one_is_a_line_about_its_intent(lines: Callable[[], list[dict[str, Any]]]) -> None:
    record = Topic().append(create(), intent_id="one")
    trace = ("ce_traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
    log_batch(batch_of([(record._replace(headers=[*record.headers, trace]), "facts")]))
    [line] = lines()
    assert line["message"] == "sre.slo.intents.v1: 1 in 10.0 ms: 1 accepted"
    assert (line["intent_id"], line["tenant_id"], line["trace_id"]) == ("one", "acme", "0af7651916cd43dd8448eb211c80319c")


def test_a_larger_batch_is_a_line_too(lines: Callable[[], list[dict[str, Any]]]) -> None:
    topic = Topic()
    log_batch(batch_of([(topic.append(create(), intent_id=name), None) for name in "abc"]))
    [line] = lines()
    assert line["message"] == "sre.slo.intents.v1: 3 in 10.0 ms: 3 duplicate"
    assert (line["intent_ids"], line["trace_ids"]) == (["a", "b", "c"], [None] * 3)


def test_ids_that_are_not_well_formed_are_left_out() -> None:
    record = Topic().append(create())
    headers = [("ce_id", b"a\nb"), ("ce_tenantid", b"\xff"), ("ce_traceparent", b"garbage")]
    assert about(record._replace(headers=headers)) == {}
