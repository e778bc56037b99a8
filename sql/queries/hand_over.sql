-- copy_for_now --
-- A copy of the relay's slot that is gone with this session.
SELECT pg_copy_logical_replication_slot(%(slot)s, %(temporary_slot)s, true);

-- advance --
-- To where the facts in Kafka end; a slot that is further has had nothing of ours since.
SELECT (pg_replication_slot_advance(slot_name, greatest(confirmed_flush_lsn, %(published)s::pg_lsn))).end_lsn::text
FROM pg_replication_slots WHERE slot_name = %(temporary_slot)s;
