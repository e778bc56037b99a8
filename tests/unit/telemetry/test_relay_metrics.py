"""What a relay counts of its groups, and how long a slot has been behind."""

from __future__ import annotations

import time

from tests.support.scrapes import Scrape
from worker.relay.relay import Group
from worker.relay.slot_position import SlotPosition
from worker.relay.status import RelayStatus
from worker.telemetry.relay_metrics import RelayMetrics, Unconfirmed

PREFIX = "sre_domain_relay"
POSITION = SlotPosition(current_lsn=2**32 + 900, confirmed_lsn=2**32, restart_lsn=2**31, safe_wal_bytes=None)


def scrape(metrics: RelayMetrics) -> Scrape:
    return Scrape(metrics.scrape()[1].decode())


def microseconds_ago(seconds: float) -> int:
    return round((time.time() - 946_684_800 - seconds) * 1e6)


def test_a_row_is_as_late_as_its_own_transaction() -> None:
    metrics = RelayMetrics(RelayStatus(), lambda: POSITION)
    metrics.tell(Group(5, 1, 2, [(microseconds_ago(20), 3), (microseconds_ago(-5), 2)]))
    metrics.tell(Group(1, 3, 4, [(microseconds_ago(1e6), 1)]))
    found = scrape(metrics)
    assert (found.value(f"{PREFIX}_groups_total"), found.value(f"{PREFIX}_rows_total")) == (2, 6)
    buckets = {
        bound: found.value(f"{PREFIX}_outbox_to_fact_duration_seconds_bucket", le=bound) for bound in ("0.005", "10.0", "300.0", "+Inf")
    }
    assert buckets == {"0.005": 2, "10.0": 2, "300.0": 5, "+Inf": 6}


def test_the_slot_is_told_in_bytes_and_without_a_limit_where_there_is_none() -> None:
    found = scrape(RelayMetrics(RelayStatus(), lambda: POSITION))
    assert found.value(f"{PREFIX}_slot_lag_bytes") == 900
    assert found.value(f"{PREFIX}_slot_retained_wal_bytes") == 2**31 + 900
    assert found.value(f"{PREFIX}_slot_safe_wal_bytes") is None
    assert found.value(f"{PREFIX}_slot_lag_seconds") == 0
    limited = scrape(RelayMetrics(RelayStatus(), lambda: POSITION._replace(safe_wal_bytes=-7)))
    assert limited.value(f"{PREFIX}_slot_safe_wal_bytes") == -7


def test_a_slot_that_is_not_there_has_no_series_and_is_an_answer() -> None:
    found = scrape(RelayMetrics(RelayStatus(), lambda: None))
    assert found.labels(f"{PREFIX}_slot_lag_bytes") == found.labels(f"{PREFIX}_slot_lag_seconds") == set()
    assert found.value(f"{PREFIX}_collector_success", collector="postgresql") == 1


def test_only_an_active_relay_tells_a_watermark() -> None:
    status = RelayStatus()
    metrics = RelayMetrics(status, lambda: POSITION)
    status.published_lsn = 0x16_B374_D848
    assert scrape(metrics).value(f"{PREFIX}_watermark_lsn") is None
    status.enter("active")
    found = scrape(metrics)
    assert found.value(f"{PREFIX}_watermark_lsn") == 0x16_B374_D848
    assert found.by(f"{PREFIX}_state", "state") == {("active",): 1}


def test_a_slot_that_keeps_up_is_not_behind_although_the_wal_grows() -> None:
    unconfirmed = Unconfirmed()
    assert [unconfirmed.seconds(now, POSITION._replace(current_lsn=now + 1, confirmed_lsn=now)) for now in range(100)] == [0.0] * 100


def test_a_slot_that_stands_still_is_behind_since_it_was_seen_to() -> None:
    unconfirmed = Unconfirmed()
    stuck = [unconfirmed.seconds(now, POSITION._replace(current_lsn=100 + now, confirmed_lsn=110)) for now in range(0, 60, 15)]
    assert stuck == [0.0, 0.0, 15.0, 30.0]


def test_a_slot_that_catches_up_is_behind_by_what_is_left() -> None:
    unconfirmed = Unconfirmed()
    for now in range(0, 50, 10):
        unconfirmed.seconds(now, POSITION._replace(current_lsn=100 + now, confirmed_lsn=0))
    assert unconfirmed.seconds(50, POSITION._replace(current_lsn=150, confirmed_lsn=125)) == 20.0
    assert unconfirmed.seconds(60, POSITION._replace(current_lsn=150, confirmed_lsn=150)) == 0.0


def test_a_slot_that_stands_still_for_days_costs_little_and_is_dated_as_well() -> None:
    unconfirmed = Unconfirmed()
    late = [unconfirmed.seconds(now, POSITION._replace(current_lsn=now + 1, confirmed_lsn=0)) for now in range(5_000)]
    assert late[-1] == 4_999.0
    assert len(unconfirmed._sightings) <= 1_000


def test_a_database_that_was_set_back_begins_anew() -> None:
    unconfirmed = Unconfirmed()
    unconfirmed.seconds(0, POSITION._replace(current_lsn=1_000, confirmed_lsn=0))
    assert unconfirmed.seconds(10, POSITION._replace(current_lsn=500, confirmed_lsn=0)) == 0.0
