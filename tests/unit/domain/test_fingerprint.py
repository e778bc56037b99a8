"""Fingerprints of Prometheus label sets, as Alertmanager prints them, and the shape of any fingerprint."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from worker.domain.fingerprint import Fingerprint, fingerprint_of

SHAPE = TypeAdapter(Fingerprint)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"name": "garland, briggs", "fear": "love is not enough"}, "507a62d79ee76c9a"),
        ({"alertname": "HighErrorRate", "service": "checkout", "severity": "critical"}, "7d2d332feada5c59"),
        # As Alertmanagers sent them, in webhooks that people published.
        ({"action": "scale-down", "alertname": "NoRunningTransformations"}, "000f86d24eb706d9"),
        ({"alertname": "NetworkChange", "severity": "Warning"}, "ef8e10c065780d35"),
        ({"alertname": "NetworkChange", "severity": "warning"}, "4c3ea395fcf5a715"),
        ({"alertname": "DiskRunningFull", "dev": "sda1", "instance": "example1"}, "8320f0af89d48747"),
        (
            {
                "alertname": "主机CPU使用率",
                "clusterId": "1",
                "instance": "k8s-node1:9101",
                "serviceRoleName": "node",
                "severity": "exception",
            },
            "72a2002704e27a2e",
        ),
        ({}, "cbf29ce484222325"),
    ],
)
def test_known_fingerprints(labels: dict[str, str], expected: str) -> None:
    assert fingerprint_of(labels) == expected
    assert fingerprint_of(dict(reversed(labels.items()))) == expected


def test_names_are_ordered_as_their_utf_8_is() -> None:
    # UTF-16, which some languages compare by, has these two the other way round.
    labels = {"\uffff": "a", "\U0001f600": "b"}
    assert sorted(labels, key=str.encode) == ["\uffff", "\U0001f600"]
    assert sorted(labels, key=lambda name: name.encode("utf-16-be")) == ["\U0001f600", "\uffff"]
    digest = 0xCBF29CE484222325
    for byte in b"\xff".join([b"\xef\xbf\xbf", b"a", b"\xf0\x9f\x98\x80", b"b", b""]):
        digest = (digest ^ byte) * 0x100000001B3 % 2**64
    assert fingerprint_of(labels) == f"{digest:016x}"


LABELS = st.dictionaries(st.text(min_size=1, max_size=8), st.text(min_size=1, max_size=8), max_size=5)


@given(LABELS, LABELS)
def test_other_labels_have_another_fingerprint(one: dict[str, str], other: dict[str, str]) -> None:
    assert (fingerprint_of(one) == fingerprint_of(other)) == (one == other)


def fault(value: str) -> str | None:
    try:
        SHAPE.validate_python(value)
    except ValidationError as error:
        return error.errors()[0]["type"]
    return None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("!~" * 64, None),
        ("x" * 129, "LIMIT_EXCEEDED"),
        ("", None),  # blank is a rule of the intent, with a code of its own
        (" " * 128, None),
        (" " * 129, "LIMIT_EXCEEDED"),
        ("a b", "SCHEMA_INVALID"),
        ("a ", "SCHEMA_INVALID"),
        ("\t", "SCHEMA_INVALID"),
        ("a\n", "SCHEMA_INVALID"),
        ("\u00a0", "SCHEMA_INVALID"),
        ("\u00e9", "SCHEMA_INVALID"),
        ("\u00e9" * 129, "SCHEMA_INVALID"),
        ("\x7f", "SCHEMA_INVALID"),
        ("\0", "SCHEMA_INVALID"),
    ],
)
def test_the_shape_of_a_fingerprint(value: str, expected: str | None) -> None:
    assert fault(value) == expected
