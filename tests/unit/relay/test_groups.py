"""What goes into one Kafka transaction, and what is confirmed after it; the slot and the producer are played here."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field, replace
from struct import pack
from threading import Event
from typing import TYPE_CHECKING, Any, cast

import pytest

from worker.relay import relay
from worker.relay.record import Record
from worker.relay.relay import Group, Link, Observer, publish_pending, relay_groups
from worker.relay.replication import Keepalive
from worker.relay.status import RelayStatus
from worker.relay.waiting import StoppedError, Waiting
from worker.relay.watermark import Watermark, decode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

OUTBOX = 1
TOPICS = {"facts": "eZIY1GpmSGqhKgyU03pfCw"}


@dataclass
class Stream:
    """Gives out one arrival after another; the test ends where they are used up and more is waited for."""

    arrivals: list[list[bytes | Keepalive]]
    stop: Event
    log: list[object]

    def pending(self) -> Iterator[bytes | Keepalive]:
        if not self.arrivals:
            self.stop.set()
            return
        arrival = self.arrivals[0]
        while arrival:
            yield arrival.pop(0)
        del self.arrivals[0]

    def wait(self, _seconds: float) -> None:
        self.log.append("wait")

    def keep_informed(self) -> None:
        pass

    def confirm(self, lsn: int) -> None:
        self.log.append(("confirm", lsn))


@dataclass
class Publisher:
    log: list[object]

    def publish(self, record: Record) -> None:
        self.log.append(record.value.decode())

    def check_connection(self) -> None:
        """It holds."""

    def commit(self, _key: bytes, watermark: bytes) -> None:
        self.log.append(("commit", decode(watermark)))


@dataclass
class Scene:
    """`arrivals`: lists of messages, each list with the rest of it arriving later than the list before."""

    arrivals: list[list[bytes | Keepalive]]
    published_lsn: int = 0
    observer: Observer | None = None
    log: list[object] = field(default_factory=list)
    stop: Event = field(default_factory=Event)

    def link(self, waiting: Waiting) -> Link:
        stream, publisher = Stream(self.arrivals, self.stop, self.log), Publisher(self.log)
        link = Link(waiting, cast("Any", stream), cast("Any", publisher), b"key", 7, self.published_lsn, TOPICS, {OUTBOX: make_record})
        return replace(link, observer=self.observer)

    def play(self) -> list[object]:
        with closing(Waiting(self.stop, RelayStatus())) as waiting:
            for _position in relay_groups(self.link(waiting)):
                pass
        return [entry for entry in self.log if entry != "wait"]


def make_record(values: Sequence[bytes | None]) -> Record:
    return Record("facts", 0, None, values[0] or b"", [])


def begin(end_lsn: int, committed_us: int = 0) -> bytes:
    return pack("!cQqI", b"B", end_lsn - 10, committed_us, 0)


def insert(fact: str) -> bytes:
    return pack("!cIcHcI", b"I", OUTBOX, b"N", 1, b"b", len(fact)) + fact.encode()


def commit(end_lsn: int) -> bytes:
    return pack("!cBQQq", b"C", 0, end_lsn - 10, end_lsn, 0)


def transaction(end_lsn: int, *facts: str) -> list[bytes | Keepalive]:
    return [begin(end_lsn, end_lsn * 10), *map(insert, facts), commit(end_lsn)]


def committed(lsn: int) -> list[object]:
    return [("commit", Watermark(7, lsn, TOPICS)), ("confirm", lsn)]


def test_a_transaction_is_committed_with_its_end_as_watermark_and_confirmed_after_that() -> None:
    assert Scene([transaction(100, "a", "b")]).play() == ["a", "b", *committed(100)]


def test_all_that_has_arrived_shares_a_group_and_what_comes_later_does_not() -> None:
    scene = Scene([transaction(100, "a") + transaction(200, "b"), transaction(300, "c")])
    assert scene.play() == ["a", "b", *committed(200), "c", *committed(300)]


def test_a_transaction_whose_rest_is_on_its_way_is_waited_for() -> None:
    first, second = transaction(100, "a"), transaction(200, "b", "c")
    scene = Scene([first + second[:2], second[2:]])
    assert scene.play() == ["a", "b", "c", *committed(200)]
    assert "wait" in scene.log


def test_a_full_group_ends_at_the_next_commit_and_never_inside_a_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "MAX_GROUP_ROWS", 2)
    scene = Scene([transaction(100, "a", "b", "c") + transaction(200, "d")])
    assert scene.play() == ["a", "b", "c", *committed(100), "d", *committed(200)]


def test_a_transaction_that_ended_at_or_before_the_watermark_is_passed_over() -> None:
    scene = Scene([transaction(100, "a") + transaction(200, "b") + transaction(300, "c")], published_lsn=200)
    assert scene.play() == ["c", *committed(300)]


def test_when_nothing_is_new_nothing_is_committed() -> None:
    assert not [entry for entry in Scene([transaction(100, "a")], published_lsn=100).play() if entry[0] == "commit"]  # type: ignore[index]


def test_a_keepalive_moves_an_idle_slot_on_without_a_kafka_transaction() -> None:
    assert Scene([[Keepalive(500)]]).play() == [("confirm", 500)]


def test_a_keepalive_behind_uncommitted_rows_confirms_nothing() -> None:
    assert Scene([[*transaction(100, "a"), Keepalive(500)]]).play() == ["a", *committed(100)]


def test_a_keepalive_inside_a_transaction_confirms_nothing() -> None:
    rows = transaction(100, "a", "b")
    assert Scene([[rows[0], Keepalive(90), *rows[1:2], Keepalive(90), *rows[2:]]]).play() == ["a", "b", *committed(100)]


def test_a_stop_inside_a_transaction_leaves_it_uncommitted() -> None:
    scene = Scene([transaction(100, "a", "b")[:2]])
    with pytest.raises(StoppedError):
        scene.play()
    assert scene.log == ["a", "wait", "wait"]


def test_a_big_transaction_that_never_pauses_still_hears_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "MESSAGES_A_TURN", 3)
    scene = Scene([transaction(100, "a", "b", "c", "d", "e")])
    scene.stop.set()
    with closing(Waiting(scene.stop, RelayStatus())) as waiting, pytest.raises(StoppedError):
        publish_pending(scene.link(waiting))
    assert scene.log == ["a", "b"]


def test_a_group_tells_when_its_transactions_committed_and_that_once_it_is_confirmed() -> None:
    scene = Scene([transaction(100, "a") + transaction(150) + transaction(200, "b", "c"), transaction(300, "d"), [Keepalive(500)]], 100)
    scene.observer = Observer(scene.log.append)
    first, second = Group(2, 190, 200, [(2_000, 2)], []), Group(1, 290, 300, [(3_000, 1)], [])
    assert scene.play() == ["b", "c", *committed(200), first, "d", *committed(300), second, ("confirm", 500)]


def test_a_group_keeps_traced_records_without_their_values_and_not_more_than_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "MAX_TRACED_RECORDS", 2)
    groups: list[Group] = []
    rows = transaction(100, "a", "trace 1") + transaction(200, "trace 2", "trace 3")
    scene = Scene([rows], observer=Observer(groups.append, lambda record: record.value.startswith(b"trace")))
    scene.play()
    [group] = groups
    assert (group.rows, group.transactions) == (4, [(1_000, 2), (2_000, 2)])
    assert group.traced == [(1_000, Record("facts", 0, None, b"", [])), (2_000, Record("facts", 0, None, b"", []))]


def test_the_position_to_go_on_from_is_the_end_of_the_last_commit() -> None:
    assert relay.confirmable_lsn(Group(rows=3, commit_lsn=90, end_lsn=100)) == 100
