"""`sre-domain relay hand-over`: the slot it makes streams what is not published and nothing else, whatever the relay's had confirmed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest

from tests.integration.relay.harness import (
    Fact,
    facts_of,
    insert_facts,
    read_facts,
    relay_in_thread,
    run_for,
    settings_for,
    slot_position,
    wait_for_facts,
    wait_until_streaming,
)
from tests.support.system import environment_of
from worker.relay import hand_over as module
from worker.relay.hand_over import NoSlotError, SuccessorError, hand_over
from worker.relay.pgoutput import Insert, decode
from worker.relay.rebuild import HandedOverError, StreamingError, rebuild
from worker.relay.replication import ReplicationStream, identity_of
from worker.relay.slot import OutboxNotEmptyError, ensure_slot
from worker.relay.watermark import Watermark, WatermarkError, encode, key_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.settings import Settings

pytestmark = pytest.mark.timeout(120)

FIRST = facts_of(["checkout", "search"], range(1, 6))
LATER = facts_of(["checkout", "search"], range(6, 9))


@pytest.fixture
def settings(kafka: str, database: str, topics: tuple[str, ...]) -> Settings:  # noqa: ARG001 - there, and empty
    made = settings_for(kafka, database)
    ensure_slot(made.relay_dsn, made.relay_slot)
    return made


@pytest.fixture
def successor() -> str:
    return f"successor_{uuid4().hex}"


def write(settings: Settings, facts: Sequence[Fact]) -> None:
    """A transaction for each."""
    with psycopg.connect(settings.writer_dsn, autocommit=True) as connection:
        for fact in facts:
            insert_facts(connection, [fact])


def publish(settings: Settings, facts: Sequence[Fact]) -> None:
    write(settings, facts)
    with relay_in_thread(settings):
        wait_for_facts(settings.kafka_bootstrap_servers, facts)


def rows_to_come(settings: Settings, slot: str) -> int:
    """What a new reader of the slot would be streamed."""
    with psycopg.connect(settings.relay_dsn) as connection:
        changes = connection.execute(
            "SELECT data FROM pg_logical_slot_peek_binary_changes(%s, NULL, NULL, 'proto_version', '1', 'publication_names', 'sre_outbox',"
            " 'binary', 'true')",
            [slot],
        ).fetchall()
    return sum(isinstance(decode(data), Insert) for (data,) in changes)


def test_the_successor_goes_on_where_the_facts_end_and_no_relay_does(settings: Settings, successor: str) -> None:
    publish(settings, FIRST)
    write(settings, LATER)
    hand_over(settings, successor)
    assert rows_to_come(settings, successor) == len(LATER)
    assert slot_position(settings.relay_dsn, settings.relay_slot) is None
    with pytest.raises(OutboxNotEmptyError, match="relay rebuild"):
        run_for(settings, 20)
    assert len(read_facts(settings.kafka_bootstrap_servers)) == len(FIRST)


def test_what_was_published_and_never_confirmed_is_not_streamed_again(
    settings: Settings, successor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ReplicationStream, "confirm", lambda *_: None)
        publish(settings, FIRST)
    hand_over(settings, successor)
    assert rows_to_come(settings, successor) == 0


def test_before_the_first_fact_the_slot_is_handed_over_as_it_is(settings: Settings, successor: str) -> None:
    hand_over(settings, successor)
    write(settings, FIRST)
    assert rows_to_come(settings, successor) == len(FIRST)


def test_nothing_is_changed_while_a_relay_streams(settings: Settings, successor: str) -> None:
    with relay_in_thread(settings):
        wait_until_streaming(settings)
        with pytest.raises(StreamingError):
            hand_over(settings, successor)
        publish_more = facts_of(["checkout"], [1])
        write(settings, publish_more)
        wait_for_facts(settings.kafka_bootstrap_servers, publish_more)
    assert slot_position(settings.relay_dsn, successor) is None


@pytest.mark.parametrize("name", ["", "Capital", "a b", "x" * 64, 'x";--'])
def test_a_name_that_no_slot_can_have_changes_nothing(settings: Settings, name: str) -> None:
    with pytest.raises(SuccessorError, match="63"):
        hand_over(settings, name)
    assert slot_position(settings.relay_dsn, settings.relay_slot) is not None


def test_a_slot_that_is_there_is_not_taken(settings: Settings, successor: str) -> None:
    ensure_slot(settings.relay_dsn, successor)
    for name in (successor, settings.relay_slot):
        with pytest.raises(SuccessorError, match="already"):
            hand_over(settings, name)
    assert slot_position(settings.relay_dsn, settings.relay_slot) is not None


def test_no_rebuild_publishes_beside_the_successor(settings: Settings, successor: str) -> None:
    publish(settings, FIRST)
    hand_over(settings, successor)
    write(settings, LATER)
    with pytest.raises(HandedOverError, match=successor):
        rebuild(settings, lambda *_: None, dry_run=False)
    assert slot_position(settings.relay_dsn, settings.relay_slot) is None
    assert len(read_facts(settings.kafka_bootstrap_servers)) == len(FIRST)
    with psycopg.connect(settings.relay_dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_drop_replication_slot(%s)", [successor])
    assert rebuild(settings, lambda *_: None, dry_run=False).missing
    rebuild(settings, lambda *_: None, dry_run=False)  # and knows nothing of it any more
    wait_for_facts(settings.kafka_bootstrap_servers, [*FIRST, *LATER])


def test_no_relay_publishes_beside_the_successor_with_a_slot_that_somebody_made(settings: Settings, successor: str) -> None:
    publish(settings, FIRST)
    hand_over(settings, successor)
    with psycopg.connect(settings.relay_dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [settings.relay_slot])
    write(settings, LATER)
    with pytest.raises(WatermarkError, match=successor):
        run_for(settings, 20)
    assert len(read_facts(settings.kafka_bootstrap_servers)) == len(FIRST)


def test_without_a_slot_a_rebuild_comes_first(settings: Settings, successor: str) -> None:
    publish(settings, FIRST)
    hand_over(settings, successor)
    with pytest.raises(NoSlotError, match="relay rebuild"):
        hand_over(settings, f"{successor[:50]}_again")


def test_the_command_says_what_it_did_or_why_not_in_one_line(settings: Settings, successor: str) -> None:
    publish(settings, FIRST)

    def run_command() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "worker", "relay", "hand-over", successor]
        return subprocess.run(
            command, env={**os.environ, **environment_of(settings)}, capture_output=True, text=True, timeout=60, check=False
        )

    done, again = run_command(), run_command()
    assert done.returncode == 0, done
    assert re.fullmatch(rf"slot {successor} goes on at [0-9A-F]+/[0-9A-F]+; slot {settings.relay_slot} is dropped\n", done.stdout)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.splitlines() == [f"sre-domain: there is no slot {settings.relay_slot} to hand over: run sre-domain relay rebuild"]


def test_what_is_in_doubt_is_not_handed_over(settings: Settings, successor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(settings, FIRST)
    identity = identity_of(settings.relay_dsn)
    in_doubt = {key_of(identity, settings.relay_slot): encode(Watermark(identity.timeline, 0, in_doubt=True))}
    monkeypatch.setattr(module, "read_committed", lambda *_: in_doubt)
    with pytest.raises(WatermarkError, match="in doubt"):
        hand_over(settings, successor)
    assert slot_position(settings.relay_dsn, settings.relay_slot) is not None


def test_killed_in_the_middle_nobody_goes_on_until_a_rebuild(settings: Settings, successor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(settings, FIRST)
    write(settings, LATER)
    with monkeypatch.context() as patch:
        patch.setattr(module, "keep_slot", _killed)
        with pytest.raises(KeyboardInterrupt):
            hand_over(settings, successor)
    for slot in (settings.relay_slot, successor):
        assert slot_position(settings.relay_dsn, slot) is None
    rebuild(settings, lambda *_: None, dry_run=False)
    wait_for_facts(settings.kafka_bootstrap_servers, [*FIRST, *LATER])
    with relay_in_thread(settings):
        wait_until_streaming(settings)
        wait_for_facts(settings.kafka_bootstrap_servers, [*FIRST, *LATER])


def _killed(*_: object) -> None:
    raise KeyboardInterrupt
