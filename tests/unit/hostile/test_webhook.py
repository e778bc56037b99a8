"""Bodies that Alertmanager would not send, through the bridge's own request handler: an answer that it does not try again."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest

from tests.fuzz.targets.alertmanager import check
from tests.support.hostile import TEXTS
from tests.support.records import NOW
from tests.support.webhook import firing, webhook

PLAIN, GZIP, DEFLATE = b"\x00", b"\x01", b"\x02"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(GZIP + b"no gzip", id="not compressed"),
        pytest.param(GZIP + gzip.compress(webhook(firing(NOW)))[:-9], id="cut short"),
        pytest.param(GZIP + gzip.compress(b"0" * 50_000_000), id="a bomb"),
        pytest.param(DEFLATE + zlib.compress(b"[" * 50_000_000), id="another"),
        pytest.param(PLAIN + b"[" * 1_000_000, id="deep"),
        pytest.param(PLAIN + webhook(firing(NOW)).replace(b"firing", b"\xff\xfe"), id="not UTF-8"),
        pytest.param(PLAIN + webhook(firing(NOW)).replace(b"many errors", b"\\ud800"), id="half a surrogate pair"),
        pytest.param(PLAIN + webhook(firing(NOW), truncatedAlerts=10**400), id="a large number"),
        pytest.param(PLAIN + b"\xef\xbb\xbf" + webhook(firing(NOW)), id="a byte order mark"),
        pytest.param(PLAIN + json.dumps({"version": "4", "alerts": [firing(NOW)] * 2}).encode() * 2, id="two documents"),
    ],
)
def test_a_hostile_body_is_answered(body: bytes) -> None:
    check(body)


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in TEXTS.items()])
def test_a_hostile_text_in_every_field_is_answered(text: str) -> None:
    labels = {"alertname": text, text: text, "severity": text}
    check(
        PLAIN
        + webhook(firing(NOW, labels=labels, annotations={text: text}, fingerprint=text, status=text), groupKey=text, truncatedAlerts=1)
    )
    check(PLAIN + webhook(firing(NOW, startsAt=text)))
    check(PLAIN + webhook(firing(NOW), version=text))
