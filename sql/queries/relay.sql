-- publication_exists --
-- Without it the WAL is read and nothing comes: PostgreSQL 18 only warns, in its own log.
SELECT EXISTS (SELECT FROM pg_publication WHERE pubname = %(publication)s);

-- slot_exists --
-- Slots are of the whole cluster; one of another database is refused when it is taken.
SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = %(slot)s);

-- see_every_row --
-- A row-level policy then makes outbox_is_empty fail where it would hide rows from it.
SET row_security = off;

-- outbox_is_empty --
-- Rows that a slot's first snapshot sees were committed before the slot's start: it will never stream them.
SELECT NOT EXISTS (SELECT FROM outbox);

-- keep_slot --
-- Gives the temporary slot's position to a permanent one: a relay that is killed before this leaves no slot behind.
SELECT pg_copy_logical_replication_slot(%(temporary_slot)s, %(slot)s, false);

-- slot_may_change --
-- Whether standbys keep no copy of the slot yet, and nobody streams from it. PostgreSQL 17 and later.
SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = %(slot)s AND NOT failover AND NOT active);

-- slot_is_ours --
SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = %(slot)s AND active_pid = %(backend_pid)s);

-- outbox_precedes_slot --
-- Rows of transactions older than any that the slot could still decode: they had ended before its position. Looked for in a Kafka that is empty,
-- where the first rows are such rows, or all of them are new.
SELECT EXISTS (
    SELECT FROM outbox, pg_replication_slots WHERE slot_name = %(slot)s AND age(outbox.xmin) > age(pg_replication_slots.catalog_xmin)
);

-- slot_position --
-- Bytes of WAL as it ends, as the slot has confirmed and as it is kept for the slot; none where the slot is lost. Fails on a standby.
SELECT
    (pg_current_wal_lsn() - '0/0'::pg_lsn)::int8, (confirmed_flush_lsn - '0/0'::pg_lsn)::int8, (restart_lsn - '0/0'::pg_lsn)::int8, safe_wal_size
FROM pg_replication_slots
WHERE slot_name = %(slot)s AND restart_lsn IS NOT NULL AND confirmed_flush_lsn IS NOT NULL;
