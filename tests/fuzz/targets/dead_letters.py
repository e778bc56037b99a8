"""What lies in the topic of rejections: a letter that can be shown, found and replayed, or one that is passed over.

Input: headers, separated by RS, each header's name and value by US; then GS and the value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from tests.fuzz.targets.envelope import record_of
from tests.fuzz.targets.envelope import seeds as records
from tests.support.letters import rejection_of
from tests.support.records import CODEC, NOW
from worker.cli.rejected import _cells
from worker.cli.rejected_page import page_of
from worker.dead_letters.finding import Selection
from worker.dead_letters.letters import read_letter
from worker.dead_letters.replay import LeftOut, Resend, replay_of
from worker.domain.rejection import RejectionCode
from worker.messages import rejection_as_json
from worker.printable import printable, printable_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from confluent_kafka import Message

_RS, _US, _GS = b"\x1e", b"\x1f", b"\x1d"


@dataclass(frozen=True)
class _Message:
    """As confluent_kafka hands one over."""

    given: list[tuple[str, bytes | None]]
    payload: bytes
    milliseconds: int

    def headers(self) -> list[tuple[str, bytes | None]]:
        return self.given

    def value(self) -> bytes:
        return self.payload

    def timestamp(self) -> tuple[int, int]:
        return 1, self.milliseconds

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return 4711


def check(data: bytes) -> None:
    head, _, value = data.partition(_GS)
    parts = [part.partition(_US) for part in head.split(_RS)]
    given = [(name.decode(errors="replace"), text if has_value else None) for name, has_value, text in parts]
    message = cast("Message", _Message(given, value, int.from_bytes(data[-8:], "big", signed=True)))
    Selection(tenant_id="acme", since=NOW).may_hold(message)
    try:
        letter = read_letter(message, CODEC)
        as_json = rejection_as_json(message, CODEC)
    except ValueError:
        return
    assert printable_json(as_json).isprintable()
    assert page_of(letter, CODEC).replace("\n", "").isprintable()
    assert all(printable(cell).isprintable() for cell in _cells(letter))
    assert letter.goes_by(letter.position)
    Selection(codes=frozenset({"SCHEMA_INVALID"}), name="one", intent="CreateSLO").holds(letter)
    for restamp in (False, True):
        assert isinstance(replay_of(letter, CODEC, NOW, restamp=restamp), Resend | LeftOut)


def seeds() -> Iterator[bytes]:
    for data in records():
        row, headers = rejection_of(record_of(data), RejectionCode.SCHEMA_INVALID, used_up=True)
        named = (name.encode() + _US + (text if isinstance(text, bytes) else (text or "").encode()) for name, text in headers)
        yield _RS.join(named) + _GS + row.payload
