"""A rejection on a terminal: all of it, and nothing that the terminal would obey."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.support.letters import letter_of
from tests.support.records import CODEC, Topic, window
from worker.cli.rejected_page import page_of
from worker.domain.rejection import RejectionCode, Violation
from worker.printable import printable

C = RejectionCode
RECORD = Topic().append(window(0), intent_id="old")


@given(st.text())
def test_what_is_printed_is_printable_and_text_stays_text(text: str) -> None:
    assert printable(text).isprintable()
    assert not text.isprintable() or printable(text) == text


@given(st.binary(), st.text(), st.text())
def test_nothing_on_a_page_speaks_to_the_terminal(wild: bytes, name: str, message: str) -> None:
    hostile = RECORD._replace(key=wild, value=wild, headers=[*RECORD.headers, (name.encode(errors="replace").decode(), wild)])
    letter = letter_of(hostile, C.SCHEMA_INVALID)
    letter = replace(letter, rejection=replace(letter.rejection, message=message, violations=(Violation(name, message),)))
    assert page_of(letter, CODEC).replace("\n", "").isprintable()


def test_a_value_of_a_known_schema_is_decoded() -> None:
    page = page_of(letter_of(RECORD, C.SLO_NOT_FOUND, used_up=True), CODEC)
    assert '"width_seconds": 60' in page
    assert "is used up" in page
    assert "sre.slo.intents.v1/0/0" in page


def test_any_other_value_is_shown_as_bytes() -> None:
    page = page_of(letter_of(RECORD._replace(value=b"\x1b[2Jgarbage" * 100), C.SCHEMA_INVALID, used_up=True), CODEC)
    assert "1100 bytes" in page
    assert "is not framed" in page
    assert "1b 5b 32 4a 67" in page
    assert "and 844 bytes more" in page


def test_a_cut_value_says_so() -> None:
    page = page_of(letter_of(RECORD._replace(value=b"x" * 2_000_000), C.MESSAGE_TOO_LARGE), CODEC)
    assert "only the first 262144 are here" in page


def test_no_value_and_no_key_are_null() -> None:
    page = page_of(letter_of(RECORD._replace(value=None, key=None), C.SCHEMA_INVALID), CODEC)
    assert "value      null" in page
    assert "key        null" in page
