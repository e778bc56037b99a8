"""What a check of the doctor can say: a line each, and for a problem a second one with what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """`FAIL` is a problem: something does not work, or a promise does not hold. `WARN` will become one, or is a choice to be aware of."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Finding:
    status: Status
    what: str
    do: str | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A finding with {names} in it, which are filled in; docs/doctor.md has each of them, and the tests have seen each."""

    status: Status
    what: str
    do: str | None = None

    def of(self, **values: object) -> Finding:
        return Finding(self.status, self.what.format(**values), None if self.do is None else self.do.format(**values))


def ok(what: str) -> Line:
    return Line(Status.OK, what)


def warn(what: str, do: str) -> Line:
    return Line(Status.WARN, what, do)


def fail(what: str, do: str) -> Line:
    return Line(Status.FAIL, what, do)


def not_checked(what: str) -> Line:
    return Line(Status.NOT_CHECKED, what)
