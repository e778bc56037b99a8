"""A database of the superuser's under the login of each job, as `make_logins` has made them."""

from __future__ import annotations

from worker.devstack.logins import READER, RELAY, WRITER, login


def as_writer(dsn: str) -> str:
    return login(dsn, WRITER)


def as_relay(dsn: str) -> str:
    return login(dsn, RELAY)


def as_reader(dsn: str) -> str:
    return login(dsn, READER)
