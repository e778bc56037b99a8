"""What a rebuild publishes and what it refuses, and that a relay goes on after it: nothing twice, nothing missing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from confluent_kafka import OFFSET_END, TopicPartition
from confluent_kafka.admin import AdminClient
from psycopg.conninfo import make_conninfo

from tests.integration.relay.harness import (
    FACTS,
    Fact,
    facts_of,
    insert_facts,
    read_facts,
    read_topic,
    relay_in_thread,
    relay_process,
    settings_for,
    slot_position,
    wait_for_facts,
    wait_until,
    wait_until_streaming,
)
from tests.support.kafka import delete_topics
from worker.devstack.logins import make_logins
from worker.devstack.postgres import running_postgres
from worker.domain.aggregate import AGGREGATES
from worker.postgres.migrate import migrate
from worker.relay import rebuild as rebuilding
from worker.relay import relay as relaying
from worker.relay.lost_topics import TopicsLostError
from worker.relay.rebuild import ForeignSlotError, StreamingError
from worker.relay.relay import run
from worker.relay.slot import OutboxNotEmptyError, SlotUnusableError, make_slot
from worker.relay.survey import Findings, ForgottenError, OvertakenError, TopicShapeError
from worker.relay.watermark import Watermark, WatermarkError
from worker.topic_admin import make_topics
from worker.topics import PARTITIONS, WATERMARK_TOPIC, facts_topic, topic_specs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.settings import Settings

NAMES = [f"slo-{number}" for number in range(20)]
COMMAND = "run sre-domain relay rebuild"
ANOTHER_FACT = """
    INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, topic, key, partition, tenant_id, aggregate_version, ce_time,
                        subject, correlation_id, causation_id)
    SELECT gen_random_uuid(), 'alert', 'a', 'sre.core.v1.AlertFired', '', %s, '', 0, 'acme', 1, '2026-03-02T12:00:00.000000Z', 'a', 'c', 'i'
"""
SLO = """{
    "tenant_id": "acme", "slo_id": "", "version": 1, "created_at": "2026-03-02", "updated_at": "2026-03-02", "name": "n",
    "description": "", "owner": "o", "scope": "s", "target": 99, "window": "30d", "sli_good": "g", "sli_total": "t",
    "budgeting_method": "occurrences", "budget_status": "no_data", "current_budget_remaining": 100, "budget_consumed": 0,
    "counted_good": 0, "counted_total": 0, "counted_slices": 0, "counted_bad_slices": 0, "counted_ratios": 0
}"""
KILLED_AT = """
import os, signal, sys
from worker.relay import rebuild
from worker.relay.publisher import Publisher
rebuild.ROWS_A_TRANSACTION = 20
commit, keep_slot, left = Publisher.commit, rebuild.keep_slot, int(sys.argv[2])
def killed(*arguments):
    global left
    left -= 1
    if left == 0 and sys.argv[1] == 'before':
        os.kill(os.getpid(), signal.SIGKILL)
    commit(*arguments)
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
def dead(*arguments):
    keep_slot(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[1] == 'kept':
    rebuild.keep_slot = dead
else:
    Publisher.commit = killed
sys.argv[1:] = ['relay', 'rebuild']
from worker.cli.main import main
main()
"""


@pytest.fixture
def settings(kafka: str, database: str, topics: tuple[str, ...]) -> Settings:  # noqa: ARG001 - there, and empty
    made = settings_for(kafka, database)
    make_slot(made.relay_dsn, made.relay_slot)
    return made


def rebuild(settings: Settings, *, dry_run: bool = False) -> Findings:
    return rebuilding.rebuild(settings, lambda _step, _done, _total: None, dry_run=dry_run)


def commit(settings: Settings, facts: list[Fact]) -> list[Fact]:
    with psycopg.connect(settings.writer_dsn) as connection:
        insert_facts(connection, facts)
    return facts


def publish(settings: Settings, facts: list[Fact]) -> list[Fact]:
    """Commit the facts and have a relay publish them, with all that is in the outbox."""
    commit(settings, facts)
    before = len(read_facts(settings.kafka_bootstrap_servers))
    with relay_in_thread(settings):
        wait_until(lambda: len(read_facts(settings.kafka_bootstrap_servers)) >= before + len(facts), "the relay publishes")
    return facts


def drop_slot(settings: Settings) -> None:
    with psycopg.connect(settings.writer_dsn) as connection:
        connection.execute("SELECT pg_drop_replication_slot(%s)", [settings.relay_slot])


def hold_state(settings: Settings, aggregate: str, version: int) -> None:
    """The aggregate's row, as the worker leaves it behind its facts."""
    with psycopg.connect(settings.writer_dsn) as connection:
        connection.execute(
            "INSERT INTO slo SELECT given.* FROM jsonb_populate_record(NULL::slo,"
            " %s::jsonb || jsonb_build_object('slo_id', %s::text, 'version', %s::int)) AS given",
            [SLO, aggregate, version],
        )


def lose_topics(settings: Settings, *names: str) -> None:
    """And find them made anew."""
    specs = [spec for spec in topic_specs(tuple(AGGREGATES)) if not names or spec.name in names]
    delete_topics(AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers}), [spec.name for spec in specs])
    make_topics(settings, specs)


def goes_on(settings: Settings, facts: list[Fact]) -> None:
    """A relay finds its place, and after it all of the facts and these new ones are there once each, in order."""
    versions = {fact.aggregate: fact.version for fact in facts}
    new = [Fact(name, versions.get(name, 0) + 1) for name in NAMES]
    with relay_in_thread(settings):
        commit(settings, new)
        wait_for_facts(settings.kafka_bootstrap_servers, facts + new)


def test_nothing_is_done_where_nothing_is_missing(settings: Settings) -> None:
    facts = publish(settings, facts_of(NAMES, [1, 2]))
    slot, ends = slot_position(settings.relay_dsn, settings.relay_slot), len(read_topic(settings.kafka_bootstrap_servers, WATERMARK_TOPIC))
    found = rebuild(settings)
    assert found == Findings(outbox_rows=40, records=40, missing={}, reasons=())
    assert found.nothing_to_do
    assert slot_position(settings.relay_dsn, settings.relay_slot) == slot
    assert len(read_topic(settings.kafka_bootstrap_servers, WATERMARK_TOPIC)) == ends
    goes_on(settings, facts)


def test_nothing_is_done_in_an_empty_system(settings: Settings) -> None:
    assert rebuild(settings).nothing_to_do
    goes_on(settings, [])


def test_a_dropped_slot_is_made_anew_and_what_was_not_published_is(settings: Settings) -> None:
    facts = publish(settings, facts_of(NAMES, [1, 2]))
    facts += commit(settings, facts_of(NAMES, [3, 4]))
    drop_slot(settings)
    with pytest.raises(OutboxNotEmptyError, match=COMMAND):
        run(settings, Event())
    looked = rebuild(settings, dry_run=True)
    assert slot_position(settings.relay_dsn, settings.relay_slot) is None
    assert rebuild(settings) == looked
    assert (looked.missing, looked.records) == ({FACTS: 40}, 40)
    assert rebuild(settings).nothing_to_do
    goes_on(settings, facts)


def test_a_slot_dropped_after_all_was_published(settings: Settings) -> None:
    facts = publish(settings, facts_of(NAMES, [1]))
    drop_slot(settings)
    assert rebuild(settings).missing == {}
    goes_on(settings, facts)


def test_a_slot_dropped_before_the_first_fact(settings: Settings) -> None:
    drop_slot(settings)
    assert not rebuild(settings).nothing_to_do
    goes_on(settings, [])


def test_facts_committed_during_a_rebuild_come_by_the_slot(settings: Settings) -> None:
    facts = commit(settings, facts_of(NAMES, [1, 2]))
    drop_slot(settings)
    steps = set()

    def tell(step: str, _done: int, _total: int) -> None:
        if step not in steps:
            steps.add(step)
            facts.extend(commit(settings, facts_of([step], [1, 2, 3])))

    rebuilding.rebuild(settings, tell, dry_run=False)
    assert len(steps) == 2
    goes_on(settings, facts)


def test_a_slot_whose_wal_was_removed_is_made_anew(kafka: str, topics: tuple[str, ...], tmp_path: Path) -> None:  # noqa: ARG001 - empty
    with running_postgres(tmp_path) as server:
        migrate(server.dsn)
        make_logins(server.dsn)
        settings = settings_for(kafka, server.dsn)
        make_slot(settings.relay_dsn, settings.relay_slot)
        facts = publish(settings, facts_of(NAMES, [1, 2]))
        facts += commit(settings, facts_of(NAMES, [3, 4]))
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
            connection.execute("SELECT pg_reload_conf()")
            for _ in range(3):
                connection.execute("SELECT pg_switch_wal()")
                connection.execute("SELECT pg_logical_emit_message(true, 'test', 'into the next segment')")
            connection.execute("CHECKPOINT")
            status = "SELECT wal_status FROM pg_replication_slots"
            wait_until(lambda: connection.execute(status).fetchone() == ("lost",), "the slot is lost")
            with pytest.raises(SlotUnusableError, match=COMMAND):
                run(settings, Event())
            connection.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
            connection.execute("SELECT pg_reload_conf()")
        found = rebuild(settings)
        assert (found.missing, found.reasons) == ({FACTS: 40}, (f"slot {settings.relay_slot} is lost",))
        goes_on(settings, facts)


def test_one_lost_topic_of_several_is_noticed_and_filled(settings: Settings) -> None:
    with psycopg.connect(settings.writer_dsn) as connection:
        connection.execute(ANOTHER_FACT, [facts_topic("alert")])
    facts = publish(settings, facts_of(NAMES, [1, 2]))
    facts += commit(settings, facts_of(NAMES, [3]))
    lose_topics(settings, FACTS)
    with pytest.raises(TopicsLostError, match=f"since slot {settings.relay_slot} published: {FACTS}; .*{COMMAND}"):
        run(settings, Event())
    found = rebuild(settings)
    assert (found.missing, found.records, found.reasons) == ({FACTS: 60}, 1, (f"{FACTS} was made anew",))
    assert rebuild(settings).nothing_to_do
    goes_on(settings, facts)


def test_a_topic_that_was_made_anew_and_held_nothing_takes_a_rebuild_to_go_on(settings: Settings) -> None:
    facts, lost = publish(settings, facts_of(NAMES, [1])), facts_topic("alert")
    lose_topics(settings, lost)
    with pytest.raises(TopicsLostError, match=f"published: {lost}; "):
        run(settings, Event())
    found = rebuild(settings)
    assert (found.missing, found.reasons) == ({}, (f"{lost} was made anew",))
    goes_on(settings, facts)


def test_topics_that_lost_all_are_noticed_by_a_watermark_without_ids(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as before_ids:
        before_ids.setattr(relaying, "Watermark", lambda timeline, lsn, _topics: Watermark(timeline, lsn))
        facts = publish(settings, facts_of(NAMES, [1, 2]))
    lose_topics(settings, FACTS)
    with pytest.raises(TopicsLostError, match=f"no topic holds anything: {COMMAND}"):
        run(settings, Event())
    assert rebuild(settings).missing == {FACTS: 40}
    goes_on(settings, facts)


def test_topics_whose_records_were_all_removed_are_not_lost(settings: Settings) -> None:
    """As when rejections are all that was ever published, and have left their topic after its retention."""
    publish(settings, facts_of(NAMES, [1]))
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    removed = admin.delete_records([TopicPartition(FACTS, number, OFFSET_END) for number in range(PARTITIONS)])
    for future in removed.values():
        future.result(20)
    with relay_in_thread(settings):
        wait_until_streaming(settings)
        new = commit(settings, facts_of(NAMES, [2]))
        wait_for_facts(settings.kafka_bootstrap_servers, new)


def test_a_kafka_that_lost_everything_is_noticed_and_filled(settings: Settings) -> None:
    facts = publish(settings, facts_of(NAMES, [1, 2]))
    with relay_in_thread(settings), psycopg.connect(settings.writer_dsn, autocommit=True) as connection:
        oldest = "SELECT min(age(xmin)) > (SELECT age(catalog_xmin) FROM pg_replication_slots WHERE slot_name = %s) FROM outbox"

        def slot_has_left_the_facts_behind() -> bool:
            connection.execute("CREATE TABLE IF NOT EXISTS busy (); SELECT pg_log_standby_snapshot()")
            return connection.execute(oldest, [settings.relay_slot]).fetchone() == (True,)

        wait_until(slot_has_left_the_facts_behind, "the slot goes on")
    lose_topics(settings)
    with pytest.raises(TopicsLostError, match=f"will never stream and no topic holds anything: {COMMAND}"):
        run(settings, Event())
    assert rebuild(settings).missing == {FACTS: 40}
    goes_on(settings, facts)


def test_a_lost_watermark_is_noticed_and_made_anew(settings: Settings) -> None:
    facts = publish(settings, facts_of(NAMES, [1, 2]))
    lose_topics(settings, WATERMARK_TOPIC)
    with pytest.raises(TopicsLostError, match=COMMAND):
        run(settings, Event())
    assert rebuild(settings).missing == {}
    goes_on(settings, facts)


def test_versions_come_in_order_whatever_their_times(settings: Settings) -> None:
    facts = commit(settings, facts_of(NAMES, range(1, 30)))
    with psycopg.connect(settings.writer_dsn) as connection:
        connection.execute("""UPDATE outbox SET "timestamp" = now() - aggregate_version * interval '1 h' WHERE aggregateid = 'slo-3'""")
    drop_slot(settings)
    assert rebuild(settings).missing == {FACTS: 580}
    goes_on(settings, facts)


def test_a_rebuild_refuses_while_a_relay_streams(settings: Settings) -> None:
    with relay_in_thread(settings):
        wait_until_streaming(settings)
        with pytest.raises(StreamingError, match="stop every relay"):
            rebuild(settings)
        with pytest.raises(StreamingError):
            rebuild(settings, dry_run=True)


def test_a_relay_that_starts_when_the_rebuild_has_looked_is_shut_out_and_nothing_is_lost(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = publish(settings, facts_of(NAMES, [1, 2]))
    honest = rebuilding.refuse_while_streaming
    with relay_process(settings, tmp_path) as relay:
        wait_until_streaming(settings)
        relay.process.send_signal(signal.SIGSTOP)
        facts += commit(settings, facts_of(NAMES, [3]))

        def looked_before(found: Mapping[str, Any] | None, slot: str) -> None:
            honest(None if found is None else {**found, "active": False}, slot)

        monkeypatch.setattr(rebuilding, "refuse_while_streaming", looked_before)
        with pytest.raises(StreamingError, match="stop every relay"):
            rebuild(settings)
        assert len(read_facts(settings.kafka_bootstrap_servers)) == 40
        relay.process.send_signal(signal.SIGCONT)
        wait_for_facts(settings.kafka_bootstrap_servers, facts)
    goes_on(settings, facts)


def test_a_slot_of_another_kind_is_left_alone(settings: Settings) -> None:
    drop_slot(settings)
    with psycopg.connect(settings.writer_dsn) as connection:
        connection.execute("SELECT pg_create_physical_replication_slot(%s)", [settings.relay_slot])
    try:
        with pytest.raises(ForeignSlotError, match="another SRE_RELAY_SLOT"):
            rebuild(settings)
    finally:
        drop_slot(settings)


def test_a_missing_fact_whose_successor_is_there_can_not_be_put_in_order(settings: Settings) -> None:
    commit(settings, facts_of(["gone"], [1]) + facts_of(NAMES, [1]))
    with relay_in_thread(settings):
        wait_until(lambda: len(read_facts(settings.kafka_bootstrap_servers)) == 21, "the relay publishes")
    commit(settings, facts_of(["gone", "whole"], [2]))
    hold_state(settings, "gone", 2)
    with psycopg.connect(settings.writer_dsn) as connection:
        connection.execute("DELETE FROM outbox WHERE aggregateid = 'gone' AND aggregate_version = 1")
        insert_facts(connection, [Fact("slo-1", 0)])
    ends = len(read_topic(settings.kafka_bootstrap_servers, committed=False))
    with pytest.raises(OvertakenError, match=r"1 aggregates, slo acme/slo-1 \(lacks 0, has 1\); delete their topics"):
        rebuild(settings)
    assert len(read_topic(settings.kafka_bootstrap_servers, committed=False)) == ends


def test_facts_that_the_database_forgot_are_named(settings: Settings) -> None:
    publish(settings, facts_of(NAMES, [1, 2, 3]))
    with psycopg.connect(settings.writer_dsn) as connection:
        connection.execute("DELETE FROM outbox WHERE aggregateid = 'slo-7' AND aggregate_version > 1")
    with pytest.raises(ForgottenError, match="1 aggregates, slo acme/slo-7 from version 2; "):
        rebuild(settings)


def test_facts_that_have_left_the_outbox_are_not_forgotten(settings: Settings) -> None:
    publish(settings, facts_of(NAMES, [1, 2, 3]))
    hold_state(settings, "slo-7", 3)
    hold_state(settings, "slo-8", 3)
    with psycopg.connect(settings.writer_dsn) as connection:
        connection.execute("DELETE FROM outbox WHERE aggregateid = 'slo-7' AND aggregate_version < 3")
        connection.execute("DELETE FROM outbox WHERE aggregateid = 'slo-8'")
    assert rebuild(settings).nothing_to_do


def test_another_fact_under_the_same_id_is_named(settings: Settings) -> None:
    """A database that forgot a fact makes its version again."""
    publish(settings, facts_of(NAMES, [1, 2]))
    with psycopg.connect(settings.writer_dsn) as connection:
        connection.execute("UPDATE outbox SET causation_id = 'another' WHERE aggregateid = 'slo-7' AND aggregate_version = 2")
    with pytest.raises(ForgottenError, match="1 aggregates, slo acme/slo-7 from version 2; "):
        rebuild(settings)


def test_a_topic_with_too_few_partitions_is_refused(settings: Settings) -> None:
    commit(settings, facts_of(NAMES, [1]))
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    delete_topics(admin, [FACTS])
    with pytest.raises(TopicShapeError, match=f"of {FACTS}, which does not exist: run sre-domain topics"):
        rebuild(settings)


def test_a_database_that_took_the_place_of_another(settings: Settings, database: str) -> None:
    facts = publish(settings, facts_of(NAMES, [1, 2]))
    successor = make_conninfo(database, dbname=f"{psycopg.conninfo.conninfo_to_dict(database)['dbname']}_b")
    name = psycopg.conninfo.conninfo_to_dict(successor)["dbname"]
    drop_slot(settings)
    with psycopg.connect(make_conninfo(database, dbname="postgres"), autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{psycopg.conninfo.conninfo_to_dict(database)["dbname"]}"')
        try:
            moved = settings_for(settings.kafka_bootstrap_servers, successor, relay_slot=settings.relay_slot)
            make_empty_slot(moved)
            with pytest.raises(WatermarkError, match=COMMAND):
                run(moved, Event())
            assert rebuild(moved).missing == {}
            goes_on(moved, facts)
        finally:
            drop_slot(moved)
            admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def make_empty_slot(settings: Settings) -> None:
    with psycopg.connect(settings.writer_dsn) as connection:
        connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [settings.relay_slot])


# The command


def environment_of(settings: Settings) -> dict[str, str]:
    return os.environ | {
        "SRE_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "SRE_DATABASE_URL": settings.relay_dsn,
        "SRE_RELAY_SLOT": settings.relay_slot,
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }


def run_command(settings: Settings, *arguments: str, code: tuple[str, ...] = ("-m", "worker")) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *code, *arguments], env=environment_of(settings), capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize(
    ("when", "number"), [("before", 1), ("after", 1), ("before", 3), ("after", 3), ("before", 5), ("after", 5), ("kept", 0)]
)
def test_killed_and_run_again(settings: Settings, when: str, number: int) -> None:
    """Of five transactions of twenty facts; the relay refuses in between, unless all was done."""
    facts = commit(settings, facts_of(NAMES, range(1, 6)))
    drop_slot(settings)
    killed = run_command(settings, when, str(number), code=("-c", KILLED_AT))
    assert killed.returncode == -signal.SIGKILL, killed
    if when != "kept":
        with pytest.raises(OutboxNotEmptyError, match=COMMAND):
            run(settings, Event())
    again = run_command(settings, "relay", "rebuild")
    assert again.returncode == 0, again
    goes_on(settings, facts)


def test_killed_anywhere_and_run_again(settings: Settings) -> None:
    facts = commit(settings, facts_of([f"slo-{number}" for number in range(500)], range(1, 41)))
    drop_slot(settings)
    luck = random.Random(5)  # noqa: S311 - a test's luck
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-m", "worker", "relay", "rebuild"], env=environment_of(settings))
        try:
            process.wait(luck.uniform(0.8, 3))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
    assert run_command(settings, "relay", "rebuild").returncode == 0
    wait_for_facts(settings.kafka_bootstrap_servers, facts)
    assert rebuild(settings).nothing_to_do


def test_what_the_command_says(settings: Settings) -> None:
    commit(settings, facts_of(NAMES, [1, 2]))
    drop_slot(settings)
    looked = run_command(settings, "relay", "rebuild", "--dry-run")
    assert looked.returncode == 0
    assert looked.stdout.splitlines() == [
        "40 rows in the outbox, 0 records in the topics since then",
        f"  40 missing from {FACTS}",
        f"  there is no slot {settings.relay_slot}",
        f"a rebuild would publish what is missing, and make slot {settings.relay_slot} and its watermark anew; nothing was changed",
    ]
    done = run_command(settings, "relay", "rebuild")
    assert (done.returncode, done.stdout.splitlines()[1:]) == (
        0,
        [
            f"  40 published to {FACTS}",
            f"  there is no slot {settings.relay_slot}",
            f"slot {settings.relay_slot} and its watermark are made anew: start the relay",
        ],
    )
    assert "publishing what is missing: 40 of 40\n" in done.stderr
    again = run_command(settings, "relay", "rebuild")
    assert again.stdout.endswith("nothing is missing and the relay can go on: nothing was changed\n")


def test_an_unreachable_kafka_or_database_is_one_line(settings: Settings) -> None:
    away = settings_for(settings.kafka_bootstrap_servers, make_conninfo(settings.relay_dsn, port=1), relay_slot=settings.relay_slot)
    failed = run_command(away, "relay", "rebuild")
    assert failed.returncode == 1
    assert failed.stderr.startswith("sre-domain: the rebuild stopped: ")
    assert failed.stderr.count("\n") == 1
