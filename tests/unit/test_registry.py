"""The registry's HTTP answers: what an id names, our own ids, logins, and something to wait for when it is away."""

from __future__ import annotations

import base64
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from tests.support.avro_files import current_schema
from tests.support.facts import RECOVERED, Applied, fact_headers
from tests.support.records import CODEC, create
from worker import fact_reader
from worker.client import BusError, FactReader, Intent, IntentPublisher
from worker.codec import DecodeError, SchemaUnseenError
from worker.recovery import is_outage
from worker.registry import Registry, RegistryAwayError, SchemaNotRegisteredError, WriterIds, codec_of, worker_codec, writer_of
from worker.settings import KafkaSettings
from worker.subjects import EMITTED, TOPIC_OF_RECORD, subject_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RECORD = "CreateSLORequested"
TEXT = json.dumps(current_schema(RECORD))
OURS = CODEC.headers[RECORD][2:]


@dataclass
class Fake:
    """Texts by id, and ids by subject, oldest first; `login` is demanded where it is set."""

    texts: dict[int, str] = field(default_factory=dict)
    subjects: dict[str, list[int]] = field(default_factory=dict)
    login: str | None = None
    asked: list[str] = field(default_factory=list)
    not_found: object = field(default_factory=lambda: {"error_code": 40403, "message": "Schema not found"})

    def answer(self, path: str, authorization: str) -> tuple[int, Any]:
        self.asked.append(path)
        if self.login is not None and authorization != f"Basic {base64.b64encode(self.login.encode()).decode()}":
            return 401, {"error_code": 401, "message": "Unauthorized"}
        match path.strip("/").split("/"):
            case ["schemas", "ids", number] if int(number) in self.texts:
                return 200, {"schema": self.texts[int(number)]}
            case ["subjects", subject, "versions"] if subject in self.subjects:
                return 200, list(range(1, len(self.subjects[subject]) + 1))
            case ["subjects", subject, "versions", version] if subject in self.subjects:
                schema_id = self.subjects[subject][int(version) - 1]
                return 200, {"subject": subject, "version": int(version), "id": schema_id, "schema": self.texts[schema_id]}
        return 404, self.not_found


@contextmanager
def serving(fake: Fake, ca: trustme.CA | None = None) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, told = fake.answer(self.path.partition("?")[0], self.headers.get("Authorization", ""))
            body = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if ca is not None:
        import ssl  # noqa: PLC0415 - for one test

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert("127.0.0.1").configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"{'http' if ca is None else 'https'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def settings(url: str, **rest: Any) -> KafkaSettings:  # noqa: ANN401 - of the fields
    return KafkaSettings(kafka_bootstrap_servers="127.0.0.1:1", schema_registry_url=url, **rest)


class Consumer:
    """Which Kafka is not asked for."""

    def assign(self, _partitions: object) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass
class Fact:
    """As confluent-kafka hands it over."""

    version: int
    framed: bytes

    def headers(self) -> list[tuple[str, bytes]]:
        return [(name, text.encode()) for name, text in fact_headers("SLOBudgetRecovered", self.version, "slo").items()]

    def value(self) -> bytes:
        return self.framed

    def topic(self) -> str:
        return "sre.slo.facts.v1"

    def partition(self) -> int:
        return 4

    def offset(self) -> int:
        return self.version


def fact(version: int, schema_id: int | None = None) -> Fact:
    value = CODEC.encode("SLOBudgetRecovered", RECOVERED)
    return Fact(version, value if schema_id is None else framed(schema_id, value))


def framed(schema_id: int, value: bytes) -> bytes:
    return b"\x00" + schema_id.to_bytes(4, "big") + value[10:]


def test_an_id_is_asked_about_once_and_known_when_the_registry_goes() -> None:
    fake = Fake({7: TEXT})
    value = CODEC.encode(RECORD, create())
    with serving(fake) as url:
        codec = codec_of(settings(url))
        assert codec.decode(RECORD, framed(7, value)) == CODEC.decode(RECORD, value)
        assert codec.decode(RECORD, framed(7, value)) == CODEC.decode(RECORD, value)
        assert fake.asked == ["/schemas/ids/7"]
        with pytest.raises(DecodeError, match="does not have"):
            codec.decode(RECORD, framed(8, value))
    assert codec.decode(RECORD, framed(7, value)) == CODEC.decode(RECORD, value)
    with pytest.raises(RegistryAwayError) as away:
        codec.decode(RECORD, framed(9, value))
    assert is_outage(away.value), "whatever needs it waits"


def test_an_id_that_did_not_exist_is_asked_about_again() -> None:
    fake = Fake()
    with serving(fake) as url:
        ids = WriterIds(Registry(settings(url)).text_of, {OURS})
        with pytest.raises(KeyError):
            ids.asked(7)
        fake.texts[7] = TEXT
        assert ids.asked(7) == OURS


def test_a_404_that_is_not_the_registrys_own_is_no_answer() -> None:
    fake = Fake(not_found={"error_code": 404, "message": "no route"})
    with serving(fake) as url, pytest.raises(RegistryAwayError, match="404"):
        Registry(settings(url)).text_of(7)
    fake.not_found = "<html>"
    with serving(fake) as url, pytest.raises(RegistryAwayError, match="404"):
        Registry(settings(url)).text_of(7)


def test_an_id_that_no_registry_gives_out_is_not_asked_about() -> None:
    def text_of(schema_id: int) -> str:
        raise AssertionError(f"asked about {schema_id}")

    for schema_id in (2**31, 2**32 - 1):
        with pytest.raises(KeyError):
            WriterIds(text_of, ()).asked(schema_id)


def test_ids_of_others_never_push_out_ours() -> None:
    texts = dict.fromkeys(range(2, 12000), "{}")
    asked: list[int] = []

    def text_of(schema_id: int) -> str:
        asked.append(schema_id)
        return TEXT if schema_id == 1 else texts[schema_id]

    ids = WriterIds(text_of, {OURS})
    ids.asked(1)
    for schema_id in texts:
        ids.asked(schema_id)
    assert ids.known(1) == OURS
    assert ids.known(11_999) is None
    with pytest.raises(SchemaUnseenError):
        ids.known(2)
    assert len(asked) == len(texts) + 1


@pytest.mark.parametrize("text", ["{", '"string"', "[]", '"Other"', '{"type": "record"}', "[" * 50_000, json.dumps({"doc": "x" * 100_001})])
def test_what_is_no_schema_is_none_of_ours_and_never_an_accident(text: str) -> None:
    assert writer_of(text) is None
    with serving(Fake({7: text})) as url, pytest.raises(DecodeError):
        codec_of(settings(url)).decode(RECORD, framed(7, CODEC.encode(RECORD, create())))


def test_the_worker_does_not_ask_while_it_decodes() -> None:
    fake = Fake({7: TEXT})
    value = framed(7, CODEC.encode(RECORD, create()))
    with serving(fake) as url:
        codec, ids = worker_codec(settings(url))
        assert ids is not None
        with pytest.raises(SchemaUnseenError):
            codec.decode(RECORD, value)
        with pytest.raises(DecodeError, match="does not have"):
            codec.without({7}).decode(RECORD, value)
        assert fake.asked == []
        ids.asked(7)
        assert codec.without({7}).decode(RECORD, value) == codec.decode(RECORD, value), "it was registered meanwhile"


def test_our_id_is_that_of_our_schema_whatever_came_after_it_and_however_it_is_described() -> None:
    later = current_schema(RECORD)
    later["fields"].append({"name": "ticket", "type": "string", "default": ""})
    fake = Fake({3: "{}", 4: json.dumps({**json.loads(TEXT), "doc": "x"}), 5: json.dumps(later)}, {subject_of(RECORD): [3, 4, 5]})
    with serving(fake) as url:
        codec = codec_of(settings(url, encoding="confluent"))
        value = codec.encode(RECORD, create())
        assert value == framed(4, CODEC.encode(RECORD, create()))
        asked = len(fake.asked)
        assert codec.encode(RECORD, create()) == value
        assert len(fake.asked) == asked
        with pytest.raises(SchemaNotRegisteredError, match="sre-domain schemas register"):
            codec.headers["SLOCreated"]


def test_a_registry_is_read_under_a_login_and_over_tls(tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    with serving(Fake({7: TEXT}, login="ann:TOPSECRET:x"), ca) as url:
        trusted = {"schema_registry_ca_file": str(tmp_path / "ca.pem")}
        login = {"schema_registry_username": "ann", "schema_registry_password": "TOPSECRET:x"}
        assert Registry(settings(url, **trusted, **login)).text_of(7) == TEXT
        with pytest.raises(RegistryAwayError, match="401") as refused:
            Registry(settings(url, **trusted, **login | {"schema_registry_password": "TOPSECRET"})).text_of(7)
        assert "TOPSECRET" not in str(refused.value)
        with pytest.raises(RegistryAwayError, match="ConnectError"):
            Registry(settings(url, **login)).text_of(7)


def test_a_reader_of_facts_hands_over_what_it_can_and_waits_for_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    polled = [[fact(1), fact(2, schema_id=7), fact(3)]]
    monkeypatch.setattr(fact_reader, "_AWAY_SECONDS", 0.01)
    monkeypatch.setattr(fact_reader, "committed_consumer", lambda *_, **__: (Consumer(), [("sre.slo.facts.v1", 4)]))
    monkeypatch.setattr(fact_reader, "poll_together", lambda _: (polled.pop(), {("sre.slo.facts.v1", 4)}))
    answers = [RegistryAwayError("away"), RegistryAwayError("away"), None]
    asked: list[int] = []

    def writer(schema_id: int) -> bytes:
        asked.append(schema_id)
        if (answer := answers[len(asked) - 1]) is not None:
            raise answer
        return CODEC.headers["SLOBudgetRecovered"][2:]

    applied = Applied()
    reader = FactReader(settings("http://127.0.0.1:1"), ["slo"], applied, codec=replace(CODEC, writer_of_id=writer))
    handed: list[list[int]] = []
    for batch in reader.catch_up():
        applied.apply(batch)
        handed.append([one.version for one in batch])
    assert handed == [[1], [2, 3]]
    assert asked == [7, 7, 7]


def test_a_publisher_says_that_the_registry_is_away_or_lacks_the_schema() -> None:
    intent = Intent(RECORD, "acme", "checkout", create(), "/tests")
    with serving(Fake()) as url:
        publisher = IntentPublisher(settings(url, encoding="confluent"))
        with pytest.raises(BusError, match="sre-domain schemas register"):
            publisher.send(intent)
    with publisher, pytest.raises(BusError, match="does not answer"):
        publisher.send(intent)


def test_every_message_has_a_subject_of_its_topic_and_record() -> None:
    assert subject_of("SLOCreated") == "sre.slo.facts.v1-sre.core.v1.SLOCreated"
    assert subject_of("CreateSLORequested") == "sre.slo.intents.v1-sre.core.v1.CreateSLORequested"
    assert subject_of("IntentRejected") == "sre.intents.rejected.v1-sre.core.v1.IntentRejected"
    assert set(EMITTED) == {name for name in TOPIC_OF_RECORD if not name.endswith("Requested") or name in EMITTED}
