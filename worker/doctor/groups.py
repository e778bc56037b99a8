"""What a login may do to consumer groups, asked in a process of its own, which a question that times out can end.

librdkafka may abort where the coordinator answers after a question's time is over (its issue 4605).
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError, KafkaException

from worker.doctor.bus import TIMEOUT_SECONDS
from worker.kafka_metadata import connected_admin

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future
    from typing import Any

    from confluent_kafka.admin import AclOperation

    from worker.settings import KafkaSettings

    Operations = frozenset[AclOperation]

COORDINATOR_SECONDS: Final = (2.0, 4.0, 8.0)
_NOT_YET: Final = (
    KafkaError._TIMED_OUT,  # noqa: SLF001 - its public name
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)


class GroupsSilentError(Exception):
    """Whether for a right or for a coordinator is not known."""


class _AskingError(Exception):
    """Code and reason of a KafkaError, which can't be handed from process to process itself."""


def operations_on_groups(settings: KafkaSettings, names: Sequence[str]) -> dict[str, Operations]:
    """By the brokers' own answer; nothing where even asking is forbidden. Raises GroupsSilentError and KafkaException."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_be_quiet) as process:
        try:
            return process.submit(_asked, settings, names, COORDINATOR_SECONDS).result()
        except BrokenProcessPool:
            raise GroupsSilentError from None
        except _AskingError as error:
            raise KafkaException(KafkaError(*error.args)) from None


def _be_quiet() -> None:
    """What an abort prints says nothing to whoever runs the doctor."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _asked(settings: KafkaSettings, names: Sequence[str], patience: Sequence[float]) -> dict[str, Operations]:
    try:
        return _asked_patiently(settings, names, patience)
    except KafkaException as error:
        raise _AskingError(error.args[0].code(), error.args[0].str()) from None


def _asked_patiently(settings: KafkaSettings, names: Sequence[str], patience: Sequence[float]) -> dict[str, Operations]:
    """Asked again, since a new cluster has to make the coordinator's place first; until then it refuses, or lets the question time out."""
    admin, _ = connected_admin(settings, TIMEOUT_SECONDS)
    for seconds in patience:
        until = time.monotonic() + seconds
        asked = admin.describe_consumer_groups(list(names), include_authorized_operations=True, request_timeout=seconds)
        wait(asked.values())
        try:
            return {name: _operations(future) for name, future in asked.items()}
        except KafkaException as error:
            if error.args[0].code() not in _NOT_YET:
                raise
            time.sleep(max(0, until - time.monotonic()))
    raise GroupsSilentError


def _operations(future: Future[Any]) -> Operations:
    try:
        return frozenset(future.result().authorized_operations or ())
    except KafkaException as error:
        if error.args[0].name().endswith("AUTHORIZATION_FAILED"):
            return frozenset()
        raise
