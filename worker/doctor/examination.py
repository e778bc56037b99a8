"""Runs checks one after the other, each for a limited time, and leaves out those that need what is broken."""

from __future__ import annotations

from dataclasses import dataclass
from queue import Empty, Queue
from threading import Thread
from typing import TYPE_CHECKING, Final

import psycopg
from confluent_kafka import KafkaException

from worker.doctor.finding import Finding, Status, fail, not_checked
from worker.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

LIMIT_SECONDS: Final = 30.0

NEEDS = not_checked("{need} has to be in order first")
FORBIDDEN = not_checked("this login may not ask: {why}")
SILENT = fail(
    "no answer within {seconds:g} s", "see what hangs: locks in pg_stat_activity, a broker without its controller, a firewall that drops"
)
BROKE_OFF = fail("broke off: {why}", "mend what it names and ask again; of a Python error, tell the authors")


@dataclass(frozen=True, slots=True)
class Check:
    """`needs` are the names of checks without whose success this one has nothing to ask."""

    name: str
    run: Callable[[], Iterable[Finding]]
    needs: tuple[str, ...] = ()


def examine(checks: Sequence[Check], limit_seconds: float = LIMIT_SECONDS) -> Iterator[tuple[str, Finding]]:
    """Each check's name with what it found, as soon as it is known. Raises nothing, whatever a check does."""
    broken: set[str] = set()
    for check in checks:
        need = next((name for name in check.needs if name in broken), None)
        findings = [NEEDS.of(need=need)] if need is not None else _findings_in_time(check, limit_seconds)
        if need is not None or any(finding.status is Status.FAIL for finding in findings):
            broken.add(check.name)
        for finding in findings:
            yield check.name, finding


def _findings_in_time(check: Check, seconds: float) -> list[Finding]:
    """A thread that can't be ended is left behind: what hangs in C hears nothing."""
    answer: Queue[list[Finding]] = Queue()
    Thread(target=lambda: answer.put(_findings(check)), name=f"doctor {check.name}", daemon=True).start()
    try:
        return answer.get(timeout=seconds)
    except Empty:
        return [SILENT.of(seconds=seconds)]


def _findings(check: Check) -> list[Finding]:
    try:
        return list(check.run())
    except psycopg.errors.InsufficientPrivilege as error:
        return [FORBIDDEN.of(why=_one_line(error))]
    except (psycopg.Error, KafkaException, WorkerError, OSError) as error:
        return [BROKE_OFF.of(why=_one_line(error))]
    except Exception as error:  # noqa: BLE001 - one check that fails hides no other
        return [BROKE_OFF.of(why=f"{type(error).__name__}: {error}")]


def _one_line(error: Exception) -> str:
    if isinstance(error, KafkaException):
        return str(error.args[0].str())
    return " ".join(str(error).split()) or type(error).__name__
