"""Which jobs this login's rights at the brokers are enough for, by asking the brokers; transactional ids can't be asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from confluent_kafka.admin import AclOperation, ResourceType, TopicDescription

from worker.acls import READER_GROUP, RELAY_GROUP, Job, rights_of
from worker.doctor.bus import TIMEOUT_SECONDS, TOPICS, described
from worker.doctor.finding import fail, not_checked, ok, warn
from worker.doctor.groups import GroupsSilentError, operations_on_groups
from worker.domain.aggregate import AGGREGATES
from worker.kafka_metadata import connected_admin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from confluent_kafka.admin import AdminClient

    from worker.acls import Right
    from worker.doctor.finding import Finding
    from worker.settings import Settings

    Allowed = Mapping[tuple[ResourceType, str], frozenset[AclOperation]]

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


def check_rights(settings: Settings) -> Iterator[Finding]:
    admin, _ = connected_admin(settings, TIMEOUT_SECONDS)
    try:
        allowed = _allowed(admin, settings)
    except GroupsSilentError:
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
    needed = {(right.name, operation) for job in jobs for right in _rights(job, settings) for operation in right.operations}
    excess = {(name, operation) for name in TOPICS for operation in allowed[ResourceType.TOPIC, name] & _HARMFUL} - needed
    if {(name, AclOperation.DELETE) for name in TOPICS} <= excess:
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


def _allowed(admin: AdminClient, settings: Settings) -> Allowed | None:
    """By the brokers' own answer; nothing where even asking is forbidden, None where they don't tell.

    Raises GroupsSilentError and KafkaException.
    """
    allowed: dict[tuple[ResourceType, str], frozenset[AclOperation]] = {}
    for name, topic in described(admin, with_operations=True).items():
        if isinstance(topic, TopicDescription) and not topic.authorized_operations:
            return None
        operations: Any = topic.authorized_operations if isinstance(topic, TopicDescription) else ()
        allowed[ResourceType.TOPIC, name] = frozenset(operations)
    groups = sorted({settings.consumer_group, RELAY_GROUP, READER_GROUP})
    return allowed | {(ResourceType.GROUP, name): operations for name, operations in operations_on_groups(settings, groups).items()}


def _list(rights: set[tuple[str, AclOperation]]) -> str:
    by_operation: dict[str, list[str]] = {}
    for name, operation in sorted(rights, key=lambda right: (right[1].name, right[0])):
        by_operation.setdefault(operation.name, []).append(name)
    return "; ".join(f"{operation} on {', '.join(names)}" for operation, names in by_operation.items())
