"""What facts go through on their way out of PostgreSQL: the publication, the slot, and the WAL that is kept for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from worker.doctor.database import asked, session
from worker.doctor.finding import fail, ok, warn
from worker.relay.replication import PUBLICATION
from worker.relay.watermark import REBUILD

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from worker.doctor.finding import Finding

_MIB: Final = 1 << 20
_MUCH_WAL_BYTES: Final = 1 << 30
_FAILOVER_SINCE: Final = 170_000

NO_PUBLICATION = fail(
    "there is no publication sre_outbox", "run sre-domain migrate; where it was dropped: CREATE PUBLICATION as sql/migrations has it"
)
WRONG_PUBLICATION = fail("publication sre_outbox {why}", "as sre_owner: {command}")
PUBLISHED = ok("sre_outbox: inserts into outbox, as one table")

NO_SLOT = fail("there is no slot {slot}", "with an empty outbox: sre-domain migrate; else facts may be missing: " + REBUILD)
FOREIGN_SLOT = fail(
    "slot {slot} is not a pgoutput slot of this database but {what}", "give SRE_RELAY_SLOT a name that is unique in the cluster"
)
LOST = fail("slot {slot} is lost: PostgreSQL removed WAL that it needs", "run " + REBUILD + ", and raise max_slot_wal_keep_size")
UNRESERVED = fail("slot {slot} is about to be lost: {behind} MiB of WAL behind", "start the relay now; raise max_slot_wal_keep_size")
INACTIVE = warn("no relay streams from slot {slot}, {behind} MiB of WAL behind", "start a relay; until then facts wait and WAL is kept")
BEHIND = warn("slot {slot} keeps {retained} MiB of WAL", "see whether the relay, the brokers or one long transaction is slow")
NO_FAILOVER = warn(
    "slot {slot} is no failover slot", "stop the relay, run sre-domain migrate: it makes it one; else a failover needs a rebuild"
)
STREAMED = ok("slot {slot} is streamed from, {retained} MiB of WAL kept")

OTHER_SLOT = warn(
    "slot {slot} of this database is not streamed from", "drop it if it is forgotten: it keeps WAL, and partitions of the outbox"
)
UNLIMITED = warn(
    "max_slot_wal_keep_size is unlimited: while no relay runs, WAL fills the disk", "set it to what the disk can spare, and alert before"
)
LIMITED = ok("max_slot_wal_keep_size is {mib} MiB")


def check_publication(dsn: str) -> Iterator[Finding]:
    with session(dsn) as connection:
        found = asked(connection, "publication", publication=PUBLICATION)
    if not found:
        yield NO_PUBLICATION.of()
        return
    faults = [WRONG_PUBLICATION.of(why=why, command=f"ALTER PUBLICATION {PUBLICATION} {change}") for why, change in _faults(found[0])]
    yield from faults or [PUBLISHED.of()]


def _faults(publication: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if publication["operations"] != ["insert"]:
        yield f"publishes {', '.join(publication['operations']) or 'nothing'}", "SET (publish = 'insert')"
    if not publication["via_root"]:
        yield "publishes partitions by their own names", "SET (publish_via_partition_root = true)"
    if publication["tables"] != ["public.outbox"]:
        yield f"is of {', '.join(publication['tables']) or 'no table'}", "SET TABLE outbox"
    elif publication["is_cut"]:
        yield "leaves out rows or columns", "SET TABLE outbox"


def check_slot(dsn: str, slot: str) -> Iterator[Finding]:
    with session(dsn) as connection:
        slots = [row for row in asked(connection, "slots") if row["name"] == slot]
        can_fail_over = connection.info.server_version >= _FAILOVER_SINCE
    if not slots:
        yield NO_SLOT.of(slot=slot)
        return
    found = slots[0]
    if not found["is_of_this_database"] or found["plugin"] != "pgoutput":
        yield FOREIGN_SLOT.of(slot=slot, what=f"a {found['plugin'] or 'physical'} slot of {found['database'] or 'the cluster'}")
        return
    behind, retained = (found["behind"] or 0) // _MIB, (found["retained"] or 0) // _MIB
    if found["wal_status"] == "lost":
        yield LOST.of(slot=slot)
        return
    faults = []
    if found["wal_status"] == "unreserved":
        faults.append(UNRESERVED.of(slot=slot, behind=behind))
    if not found["active"]:
        faults.append(INACTIVE.of(slot=slot, behind=behind))
    elif (found["retained"] or 0) > _MUCH_WAL_BYTES:
        faults.append(BEHIND.of(slot=slot, retained=retained))
    if can_fail_over and found["failover"] != "true":
        faults.append(NO_FAILOVER.of(slot=slot))
    yield from faults or [STREAMED.of(slot=slot, retained=retained)]


def check_wal_limit(dsn: str, slot: str) -> Iterator[Finding]:
    with session(dsn) as connection:
        (server,) = asked(connection, "server")
        others = [row for row in asked(connection, "slots") if row["name"] != slot and row["is_of_this_database"] and not row["active"]]
    faults = [OTHER_SLOT.of(slot=row["name"]) for row in others]
    if server["wal_keep_mib"] < 0:
        faults.append(UNLIMITED.of())
    yield from faults or [LIMITED.of(mib=server["wal_keep_mib"])]
