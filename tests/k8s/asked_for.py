"""The metrics that the dashboard and the alerts ask for, by the names that a scrape has."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from k8s.dashboard import PANELS
from k8s.slos import groups

if TYPE_CHECKING:
    from collections.abc import Iterator

_RECORDED: Final = re.compile(r"\bsre_domain:[\w:]+")
_METRIC: Final = re.compile(r"\b(?:sre_domain|process)_[a-z_]+\b")


def panels() -> list[str]:
    """The dashboard's queries."""
    return [expression for panel in PANELS for expression in panel.lines.values()]


def rules() -> list[str]:
    """The expressions of what is recorded and of what alerts."""
    return [rule["expr"] for group in groups() for rule in group["rules"]]


def recorded(expressions: list[str]) -> set[str]:
    return {name for one in expressions for name in _RECORDED.findall(one)}


def metrics(expressions: list[str]) -> set[str]:
    """Without those that rules record, and a histogram under its one name."""
    return {name for one in expressions for name in _metrics(_RECORDED.sub("", one))}


def _metrics(expression: str) -> Iterator[str]:
    for name in _METRIC.findall(expression):
        yield re.sub(r"_(?:bucket|count|sum)$", "", name)


def asked_for_by_dashboard_and_alerts() -> set[str]:
    return metrics([*panels(), *rules()])
