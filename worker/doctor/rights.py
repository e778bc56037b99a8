"""Which jobs this login's rights at the brokers are enough for, by asking the brokers; transactional ids can't be asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AclOperation, ResourceType, TopicDescription

from worker.acls import READER_GROUP, RELAY_GROUP, Job, rights_of
from worker.doctor.bus import connected, described
from worker.doctor.finding import fail, not_checked, ok, warn
from worker.domain.aggregate import AGGREGATES
from worker.topics import topic_specs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future
    from typing import Any

    from confluent_kafka.admin import AdminClient

    from worker.acls import Right
    from worker.doctor.finding import Finding
    from worker.settings import Settings

    Allowed = Mapping[tuple[ResourceType, str], frozenset[AclOperation]]

_TIMEOUT_SECONDS: Final = 10.0
_COORDINATOR_SECONDS: Final = (2.0, 4.0, 8.0)
_HARMFUL: Final = frozenset({AclOperation.WRITE, AclOperation.DELETE, AclOperation.ALTER, AclOperation.ALTER_CONFIGS})

NOT_TOLD = not_checked("these brokers don't tell what a login may do")
GROUPS_SILENT = not_checked("no answer about groups in time: brokers that never had a group make their place first, so ask again")
NO_JOB = fail(
    "this login can do no job whole; as {job} it lacks {rights}", "give it the rights of its job (docs/transport.md#rights-at-the-brokers)"
)
NO_ACLS = warn(
    "this login may delete and alter every topic",
    "a superuser's login, or brokers without ACLs: anybody could write facts (docs/transport.md)",
)
EXCESS = warn("this login may also {rights}", "take that away: it needs it for none of its jobs ({jobs})")
ENOUGH = ok("enough for {jobs}")


class _GroupsSilentError(Exception):
    """Whether for a right or for a coordinator is not known."""


def check_rights(settings: Settings) -> Iterator[Finding]:
    admin, _ = connected(settings)
    try:
        allowed = _allowed(admin, settings.consumer_group)
    except _GroupsSilentError:
        yield GROUPS_SILENT.of()
        return
    if allowed is None:
        yield NOT_TOLD.of()
        return
    lacking = {job: _lacking(job, allowed, settings) for job in Job}
    jobs = [job for job in Job if not lacking[job]]
    if len(jobs) > 1:
        jobs = [job for job in jobs if job is not Job.SCALER]  # what a worker may do is enough for it
    if not jobs:
        nearest = min(Job, key=lambda job: len(lacking[job]))
        yield NO_JOB.of(job=nearest.value, rights=_list(lacking[nearest]))
        return
    topics = {spec.name for spec in topic_specs(tuple(AGGREGATES))}
    needed = {(right.name, operation) for job in jobs for right in _rights(job, settings) for operation in right.operations}
    excess = {(name, operation) for name in topics for operation in allowed[ResourceType.TOPIC, name] & _HARMFUL} - needed
    if {(name, AclOperation.DELETE) for name in topics} <= excess:
        yield NO_ACLS.of()
    elif excess:
        yield EXCESS.of(rights=_list(excess), jobs=", ".join(jobs))
    else:
        yield ENOUGH.of(jobs=", ".join(jobs))


def _rights(job: Job, settings: Settings) -> tuple[Right, ...]:
    return rights_of(job, tuple(AGGREGATES), consumer_group=settings.consumer_group, slot=settings.relay_slot)


def _lacking(job: Job, allowed: Allowed, settings: Settings) -> set[tuple[str, AclOperation]]:
    return {
        (right.name, operation)
        for right in _rights(job, settings)
        if right.resource is not ResourceType.TRANSACTIONAL_ID
        for operation in right.operations
        if operation not in allowed[right.resource, right.name]
    }


def _allowed(admin: AdminClient, consumer_group: str) -> Allowed | None:
    """By the brokers' own answer; nothing where even asking is forbidden, None where they don't tell. Raises KafkaException."""
    allowed: dict[tuple[ResourceType, str], frozenset[AclOperation]] = {}
    for name, topic in described(admin, with_operations=True).items():
        if isinstance(topic, TopicDescription) and not topic.authorized_operations:
            return None
        operations: Any = topic.authorized_operations if isinstance(topic, TopicDescription) else ()
        allowed[ResourceType.TOPIC, name] = frozenset(operations)
    return {**allowed, **_groups(admin, sorted({consumer_group, RELAY_GROUP, READER_GROUP}))}


def _groups(admin: AdminClient, names: list[str]) -> Allowed:
    """Asked again, since librdkafka lets a question time out that came before the coordinator, which a new cluster has to make."""
    for seconds in _COORDINATOR_SECONDS:
        asked = admin.describe_consumer_groups(names, include_authorized_operations=True, request_timeout=seconds)
        try:
            return {(ResourceType.GROUP, name): _operations(future) for name, future in asked.items()}
        except KafkaException as error:
            if error.args[0].code() != KafkaError._TIMED_OUT:  # noqa: SLF001 - its public name
                raise
    raise _GroupsSilentError


def _operations(future: Future[Any]) -> frozenset[AclOperation]:
    try:
        return frozenset(future.result().authorized_operations or ())
    except KafkaException as error:
        if error.args[0].name().endswith("AUTHORIZATION_FAILED"):
            return frozenset()
        raise


def _list(rights: set[tuple[str, AclOperation]]) -> str:
    by_operation: dict[str, list[str]] = {}
    for name, operation in sorted(rights, key=lambda right: (right[1].name, right[0])):
        by_operation.setdefault(operation.name, []).append(name)
    return "; ".join(f"{operation} on {', '.join(names)}" for operation, names in by_operation.items())
