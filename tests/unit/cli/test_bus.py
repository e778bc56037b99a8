"""One line of `sre-domain publish`: a good one becomes a record, a bad one names the field at fault."""

import json

import pytest

from worker.cli.bus import outgoing_from_line
from worker.codec import load_codec

CODEC = load_codec()
WINDOW = {"start": "2026-03-02T00:00:00Z", "width_seconds": 60, "good": 99, "total": 100}
LINE: dict[str, object] = {"type": "RecordSLIWindow", "tenant": "acme", "key": "checkout", "data": WINDOW}


def line(**changes: object) -> str:
    return json.dumps({name: value for name, value in {**LINE, **changes}.items() if value is not None})


def test_a_good_line_becomes_a_record() -> None:
    outgoing = outgoing_from_line(line(id="a", time="2026-03-02T00:02:00+01:00"), CODEC)
    headers = dict(outgoing.headers)
    assert (outgoing.topic, outgoing.key) == ("sre.slo.intents.v1", b"checkout")
    assert (headers["ce_id"], headers["ce_time"]) == (b"a", b"2026-03-01T23:02:00.000000Z")
    assert CODEC.decode("RecordSLIWindowRequested", outgoing.value)["good"] == 99


@pytest.mark.parametrize("name", ["RecordSLIWindow", "RecordSLIWindowRequested", "sre.core.v1.RecordSLIWindowRequested"])
def test_a_type_may_be_written_short_or_in_full(name: str) -> None:
    assert dict(outgoing_from_line(line(type=name), CODEC).headers)["ce_type"] == b"sre.core.v1.RecordSLIWindowRequested"


def test_an_id_is_made_where_none_is_given() -> None:
    first, second = (dict(outgoing_from_line(line(), CODEC).headers)["ce_id"] for _ in range(2))
    assert first != second


def test_decimals_are_exact() -> None:
    spec = {"good": "g", "total": "t", "budgeting_method": "occurrences"}
    data = {"name": "n", "target": 99.95, "window": "7d", "sli_spec": spec, "owner": "o", "scope": "s", "actor": "a"}
    outgoing = outgoing_from_line(line(type="CreateSLO", data=data), CODEC)
    assert CODEC.decode("CreateSLORequested", outgoing.value)["target"] == (99_950_000).to_bytes(4, "big")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"type": None}, "type: is missing"),
        ({"key": None}, "key: is missing"),
        ({"typ": "x"}, "typ: is not known"),
        ({"type": "Nonsense"}, "type: Nonsense is not an intent"),
        ({"tenant": 7}, "tenant: must be a string"),
        ({"tenant": "a b"}, "tenant: must be"),
        ({"id": "a b"}, "id: must be"),
        ({"time": "yesterday"}, "time: is not an RFC 3339 time"),
        ({"data": []}, "data: must be an object"),
        ({"key": "Not A Slug"}, "key: must be"),
        ({"data": {**WINDOW, "good": "99"}}, "data.good: "),
        ({"data": {**WINDOW, "good": 0.5}}, "data.good: "),
        ({"data": {**WINDOW, "goood": 1}}, "data.goood: "),
        ({"data": {**WINDOW, "start": "noon"}}, "data.start: "),
    ],
)
def test_a_bad_line_names_its_field(changes: dict[str, object], fault: str) -> None:
    with pytest.raises(ValueError, match=f"^{fault.replace('.', '[.]')}"):
        outgoing_from_line(line(**changes), CODEC)


@pytest.mark.parametrize("text", ["", "{", "7", "[]", '"x"'])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="JSON"):
        outgoing_from_line(text, CODEC)
