"""`sre-domain import access-log`: what is sent and what is said; Kafka stands aside."""

import gzip
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from worker.cli import imports
from worker.client import Outgoing
from worker.codec import load_codec
from worker.errors import WorkerError
from worker.settings import Settings

Import = Callable[..., Result]

LOG = b"""\
198.18.0.1 - - [02/Mar/2026:12:00:01 +0000] "GET / HTTP/1.1" 200 512
garbage
198.18.0.1 - - [02/Mar/2026:12:06:01 +0000] "GET / HTTP/1.1" 503 -

198.18.0.1 - - [02/Mar/2026:12:00:00 +0000] "GET / HTTP/1.1" 404 1
198.18.0.1 - - [02/Mar/2026:12:01:00 +0000] "GET / HTTP/1.1" 200 1
"""
NOON_US = 1_772_452_800_000_000
MINUTE_US = 60_000_000


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Outgoing]:
    """What was published, in order."""
    records: list[Outgoing] = []

    def publish(_: Settings, outgoing: Iterable[Outgoing]) -> int:
        records.extend(outgoing)
        return len(records)

    monkeypatch.setattr(imports, "publish", publish)
    return records


@pytest.fixture
def access_log(monkeypatch: pytest.MonkeyPatch) -> Import:
    monkeypatch.setenv("SRE_DATABASE_URL", "unused")
    monkeypatch.setenv("SRE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")

    def run(file: object, *options: str, stdin: bytes = b"") -> Result:
        arguments = ["access-log", str(file), "--slo", "checkout", "--tenant", "acme", *options]
        return CliRunner().invoke(imports.app, arguments, input=stdin)

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "access.log"
    path.write_bytes(LOG)
    return path


def window(minute: int, good: int, total: int, width: int = 60, revision: int = 0) -> dict[str, Any]:
    start = NOON_US + minute * MINUTE_US
    return {"start": start, "width_seconds": width, "good": good, "total": total, "revision": revision, "expected_version": None}


def data(sent: list[Outgoing]) -> list[dict[str, Any]]:
    return [load_codec().decode("RecordSLIWindowRequested", record.value) for record in sent]


def test_each_window_is_one_intent_in_order_of_time(access_log: Import, file: Path, sent: list[Outgoing]) -> None:
    result = access_log(file)
    assert (result.exit_code, result.stderr) == (0, "")
    assert data(sent) == [window(0, 2, 2), window(1, 1, 1), window(6, 0, 1)]
    assert {(record.topic, record.key) for record in sent} == {("sre.slo.intents.v1", b"checkout")}
    headers = [dict(record.headers) for record in sent]
    assert {header["ce_tenantid"] for header in headers} == {b"acme"}
    assert len({header["ce_id"] for header in headers}) == 3


def test_the_summary_names_the_broken_lines(access_log: Import, file: Path, sent: list[Outgoing]) -> None:
    assert access_log(file).stdout.splitlines() == [
        "6 lines: 4 parsed, 2 broken, 2 out of order; 2026-03-02T12:00:00Z to 2026-03-02T12:06:01Z",
        "  line 2 lacks client, identity and user",
        "  line 4 is empty",
        f"{len(sent)} windows of 60 s, 3 intents published",
    ]


@pytest.mark.usefixtures("sent")
def test_only_the_first_broken_lines_are_named(access_log: Import) -> None:
    lines = access_log("-", stdin=LOG + b"garbage\n" * 100).stdout.splitlines()
    assert len(lines) == 13
    assert lines[-2] == "  and 92 more"


def test_width_and_revision_are_those_asked_for(access_log: Import, file: Path, sent: list[Outgoing]) -> None:
    assert access_log(file, "--width", "300", "--revision", "2").exit_code == 0
    assert data(sent) == [window(0, 3, 3, 300, 2), window(5, 0, 1, 300, 2)]


def test_standard_input_and_gzip_are_read_like_a_file(access_log: Import, tmp_path: Path, sent: list[Outgoing]) -> None:
    packed = tmp_path / "access.log.gz"
    packed.write_bytes(gzip.compress(LOG, mtime=0))
    assert access_log(packed).exit_code == 0
    assert access_log("-", stdin=LOG).exit_code == 0
    assert data(sent) == 2 * [window(0, 2, 2), window(1, 1, 1), window(6, 0, 1)]


def test_an_empty_log_publishes_nothing(access_log: Import, sent: list[Outgoing]) -> None:
    result = access_log("-", stdin=b"")
    assert (result.exit_code, sent) == (0, [])
    assert result.stdout.splitlines() == ["0 lines: 0 parsed, 0 broken, 0 out of order", "0 windows of 60 s, 0 intents published"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.log", None, "missing.log: No such file or directory"),
        ("folder.log", b"", "folder.log: Is a directory"),
        ("garbage.log", b"garbage\n" * 3, "no line is in common or combined log format"),
        ("cut.log.gz", gzip.compress(LOG, mtime=0)[:-20], "ended before the end-of-stream marker"),
        ("plain.log.gz", LOG, "Not a gzipped file"),
        ("torn.log.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + b"\xff" * 40, "while decompressing"),
    ],
    ids=["missing", "folder", "garbage", "cut", "not-gzip", "torn"],
)
def test_a_file_that_cannot_be_read_is_one_line_and_sends_nothing(
    access_log: Import, tmp_path: Path, sent: list[Outgoing], name: str, content: bytes | None, says: str
) -> None:
    path = tmp_path / name
    if name == "folder.log":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    result = access_log(path)
    assert isinstance(result.exception, WorkerError)
    assert str(path) in str(result.exception)
    assert says in str(result.exception)
    assert "\n" not in str(result.exception)
    assert sent == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--width", "61"), "--width"),
        (("--slo", "Not A Slug"), "--slo"),
        (("--revision", "-1"), "--revision"),
        (("--revision", "2147483648"), "--revision"),
    ],
)
def test_a_wrong_option_is_named_and_sends_nothing(
    access_log: Import, file: Path, sent: list[Outgoing], options: tuple[str, ...], says: str
) -> None:
    result = access_log(file, *options)
    assert result.exit_code != 0
    assert says in (str(result.exception) if isinstance(result.exception, WorkerError) else result.stderr)
    assert sent == []
