"""Which watermark lets a relay go on, and from where."""

import pytest

from worker.relay.replication import Identity, format_lsn, parse_lsn
from worker.relay.watermark import Watermark, WatermarkError, decode, encode, key_of, published_up_to

HERE = Identity(system="7412", timeline=2, flushed_lsn=5_000, database="sre")
KEY = b"7412/sre/sre_outbox"


def test_a_watermark_survives_the_way() -> None:
    watermark = Watermark(timeline=3, lsn=0x16_B374D848, topics={"sre.slo.facts.v1": "eZIY1GpmSGqhKgyU03pfCw"})
    assert decode(encode(watermark)) == watermark
    assert encode(watermark) == b'{"timeline": 3, "lsn": "16/B374D848", "topics": {"sre.slo.facts.v1": "eZIY1GpmSGqhKgyU03pfCw"}}'


def test_a_watermark_says_to_whom_the_outbox_was_handed_over_and_no_relay_goes_on_from_it() -> None:
    watermark = Watermark(timeline=2, lsn=1_000, handed_to="sre_debezium")
    assert decode(encode(watermark)) == watermark
    with pytest.raises(WatermarkError, match="handed over to slot sre_debezium"):
        published_up_to({KEY: encode(watermark)}, HERE, "sre_outbox")


def test_a_watermark_from_before_topics_had_ids_is_read() -> None:
    assert decode(b'{"timeline": 3, "lsn": "16/B374D848"}') == Watermark(timeline=3, lsn=0x16_B374D848)


@pytest.mark.parametrize(("text", "lsn"), [("0/0", 0), ("16/B374D848", 0x16_B374D848), ("FFFFFFFF/FFFFFFFF", 2**64 - 1)])
def test_an_lsn_reads_as_postgresql_writes_it(text: str, lsn: int) -> None:
    assert (parse_lsn(text), format_lsn(lsn)) == (lsn, text)


def test_the_key_names_the_system_the_database_and_the_slot() -> None:
    assert key_of(HERE, "sre_outbox") == KEY


def test_the_relay_goes_on_from_its_own_watermark() -> None:
    committed = {KEY: encode(Watermark(2, 5_000)), b"7412/sre/other": encode(Watermark(9, 9_000))}
    assert published_up_to(committed, HERE, "sre_outbox") == 5_000


def test_a_slot_that_never_published_begins_at_the_beginning() -> None:
    assert published_up_to({b"7412/sre/other_sre_outbox": encode(Watermark(2, 1))}, HERE, "sre_outbox") == 0


def test_a_watermark_of_another_timeline_is_refused() -> None:
    with pytest.raises(WatermarkError, match="timeline 1, the database is on 2"):
        published_up_to({KEY: encode(Watermark(1, 1_000))}, HERE, "sre_outbox")


def test_a_promoted_standby_goes_on_from_what_it_has() -> None:
    promoted = HERE._replace(timeline=4, left_at={2: 1_000, 3: 2_000})
    assert published_up_to({KEY: encode(Watermark(2, 1_000))}, promoted, "sre_outbox") == 1_000
    assert published_up_to({KEY: encode(Watermark(3, 2_000))}, promoted, "sre_outbox") == 2_000
    with pytest.raises(WatermarkError, match=r"published up to 0/3E9, the database was set back to 0/3E8: run sre-domain relay rebuild"):
        published_up_to({KEY: encode(Watermark(2, 1_001))}, promoted, "sre_outbox")


def test_a_watermark_beyond_the_end_of_the_database_is_refused() -> None:
    with pytest.raises(WatermarkError, match="published up to 0/1389, the database was set back to 0/1388"):
        published_up_to({KEY: encode(Watermark(2, 5_001))}, HERE, "sre_outbox")


@pytest.mark.parametrize("stranger", [b"7411/sre/sre_outbox", b"7412/copy/sre_outbox"])
def test_a_slot_name_that_published_for_another_system_or_database_is_refused(stranger: bytes) -> None:
    with pytest.raises(WatermarkError, match=stranger.decode()):
        published_up_to({stranger: encode(Watermark(2, 1_000))}, HERE, "sre_outbox")
