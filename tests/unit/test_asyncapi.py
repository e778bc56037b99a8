"""The AsyncAPI document: AsyncAPI's own parser takes it, Avro included, and it has every message and topic of the bus and no other."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from tests.support.avro_files import V1
from worker.asyncapi import asyncapi_document
from worker.cli.main import app
from worker.devstack.files import cache_directory, make_once
from worker.domain.aggregate import AGGREGATES
from worker.envelope import Record, open_envelope
from worker.topics import WATERMARK_TOPIC, topic_specs

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parents[1] / "asyncapi"
DOCUMENT = asyncapi_document()


def _forget_a_message(document: dict[str, Any]) -> None:
    del document["components"]["messages"]["CreateSLORequested"]


def _write_an_unknown_type(document: dict[str, Any]) -> None:
    document["components"]["messages"]["SLOCreated"]["payload"]["schema"]["fields"][0]["type"] = "text"


def _receive_from_nowhere(document: dict[str, Any]) -> None:
    document["operations"]["receive_slo_intents"]["channel"]["$ref"] = "#/channels/none"


def _require_by_a_text(document: dict[str, Any]) -> None:
    document["components"]["schemas"]["factHeaders"]["required"] = "ce_id"


BREAKS: list[Callable[[dict[str, Any]], None]] = [_forget_a_message, _write_an_unknown_type, _receive_from_nowhere, _require_by_a_text]


@pytest.fixture(scope="module")
def complaints() -> dict[str, list[str]]:
    """What the parser says, by what was done to the document; `as it is` for nothing."""
    documents = {"as it is": DOCUMENT}
    for change in BREAKS:
        documents[change.__name__] = deepcopy(DOCUMENT)
        change(documents[change.__name__])
    given = json.dumps(list(documents.values()))
    done = subprocess.run(["node", HERE / "validate.mjs"], input=given, cwd=_packages(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(zip(documents, json.loads(done.stdout), strict=True))


def _packages() -> Path:
    """The packages of the lock file, fetched once."""
    if shutil.which("npm") is None and not os.environ.get("CI"):
        pytest.skip("npm is needed for AsyncAPI's parser")
    lock = (HERE / "package-lock.json").read_bytes()
    return make_once(cache_directory() / f"asyncapi-{hashlib.sha256(lock).hexdigest()[:16]}", _fetch_into)


def _fetch_into(directory: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, directory)
    subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=directory, check=True, capture_output=True)


def test_the_parser_takes_it_as_it_is(complaints: dict[str, list[str]]) -> None:
    assert complaints["as it is"] == []


@pytest.mark.parametrize("change", BREAKS, ids=lambda change: change.__name__.strip("_"))
def test_the_parser_refuses_it_broken(complaints: dict[str, list[str]], change: Callable[[dict[str, Any]], None]) -> None:
    assert [line for line in complaints[change.__name__] if line.startswith("error")]


def test_it_has_every_message_and_no_other() -> None:
    types = {path.stem for path in V1.glob("types/*.avsc")}
    assert DOCUMENT["components"]["messages"].keys() == {path.stem for path in V1.glob("*/*.avsc")} - types


def test_it_has_every_topic_with_its_messages_but_the_relays_own() -> None:
    channels = {channel["address"]: channel for channel in DOCUMENT["channels"].values()}
    assert channels.keys() == {spec.name for spec in topic_specs(tuple(AGGREGATES))} - {WATERMARK_TOPIC}
    for name, aggregate in AGGREGATES.items():
        assert channels[f"sre.{name}.intents.v1"]["messages"].keys() == aggregate.intents.keys()
        assert channels[f"sre.{name}.facts.v1"]["messages"].keys() == aggregate.facts.keys()


@pytest.mark.parametrize("left_out", DOCUMENT["components"]["schemas"]["intentHeaders"]["required"])
def test_a_header_is_required_of_an_intent_where_the_worker_refuses_one_without(left_out: str) -> None:
    headers = {
        "ce_specversion": "1.0",
        "ce_id": "1",
        "ce_source": "/tests",
        "ce_type": "sre.core.v1.CreateSLORequested",
        "ce_time": "2026-03-02T00:00:00Z",
        "ce_subject": "checkout",
        "ce_tenantid": "acme",
        "content-type": "application/avro",
    }
    assert headers.keys() == set(DOCUMENT["components"]["schemas"]["intentHeaders"]["required"])

    def opened(names: dict[str, str]) -> str:
        record = Record("sre.slo.intents.v1", 0, 0, 0, b"checkout", b"\xc3\x01", [(name, text.encode()) for name, text in names.items()])
        return type(open_envelope(record)).__name__

    assert opened(headers) == "Envelope"
    assert opened({name: text for name, text in headers.items() if name != left_out}) == "Rejection"


def test_the_command_prints_it() -> None:
    assert json.loads(CliRunner().invoke(app, ["asyncapi"]).stdout) == DOCUMENT
