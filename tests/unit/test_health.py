"""Probes over real HTTP."""

from __future__ import annotations

from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.support.probes import ask
from worker.devstack.processes import LOOPBACK, free_port
from worker.health import Check, HealthAddressError, serve_health


def well() -> Check:
    return Check(state="active")


def unwell() -> Check:
    return Check(state="waiting", reasons=("PostgreSQL is away",))


def test_a_probe_is_told_the_state_and_why_not() -> None:
    port = free_port()
    with serve_health(f"{LOOPBACK}:{port}", well, unwell):
        assert ask(port, "/livez") == (200, "active", ())
        assert ask(port, "/readyz?verbose") == (503, "waiting", ("PostgreSQL is away",))
    assert ask(port, "/livez").status == 0


def test_many_probes_make_one_check() -> None:
    port, made = free_port(), []

    def check() -> Check:
        made.append(1)
        return well()

    with serve_health(f":{port}", check, well):
        for _ in range(5):
            assert ask(port, "/livez").status == 200
    assert len(made) == 1


def test_a_port_that_is_taken_is_one_line() -> None:
    port = free_port()
    address = f"{LOOPBACK}:{port}"
    refused = pytest.raises(HealthAddressError, match=f"can't listen on {address}")
    with serve_health(address, well, well), refused, serve_health(address, well, well):
        pass


def test_nobody_listens_unless_told_to() -> None:
    with serve_health(None, well, well):
        pass


def test_metrics_are_served_beside_the_probes_whatever_is_accepted() -> None:
    port, asked = free_port(), []

    def metrics() -> tuple[str, bytes]:
        asked.append(1)
        return "text/plain; version=0.0.4", b"up 1\n"

    with serve_health(f"{LOOPBACK}:{port}", well, unwell, metrics):
        for accept in ("text/plain", "application/openmetrics-text; version=zzz"):
            with urlopen(Request(f"http://{LOOPBACK}:{port}/metrics?x", headers={"Accept": accept}), timeout=5) as answer:
                assert (answer.headers["Content-Type"], answer.read()) == ("text/plain; version=0.0.4", b"up 1\n")
        assert ask(port, "/readyz").status == 503
    assert len(asked) == 2


def test_there_are_no_metrics_where_nobody_makes_them() -> None:
    port = free_port()
    with serve_health(f"{LOOPBACK}:{port}", well, well), pytest.raises(HTTPError, match="404"):
        urlopen(f"http://{LOOPBACK}:{port}/metrics", timeout=5)
