-- see_tenants --
-- Until the transaction ends, rows of these tenants are all that there are.
SELECT set_config('sre.tenants', (%(tenants)b::text[])::text, true);

-- lock_positions --
-- How far these partitions were decided; locked, so that two workers on one partition take turns.
SELECT partition, next_offset
FROM intake_position
WHERE topic = %(topic)s AND partition = ANY(%(partitions)s)
ORDER BY partition
FOR UPDATE;

-- lock_intents --
-- One id in two partitions at once: the inbox's key holds ce_time, so only this lock puts the two in turn.
SELECT count(pg_advisory_xact_lock(lock)) FROM (SELECT lock FROM unnest(%(locks)b::int8[]) AS batch (lock) ORDER BY lock) AS sorted;

-- outcomes_of --
-- What was decided for those of the batch's records that were decided before, whatever their ce_time.
SELECT inbox.tenant_id, inbox.intent_id, inbox.content_hash, inbox.topic, inbox.partition, inbox."offset"
FROM unnest(%(tenant_ids)b::text[], %(intent_keys)b::uuid[]) AS batch (tenant_id, intent_key)
CROSS JOIN LATERAL (
    SELECT * FROM inbox WHERE inbox.tenant_id = batch.tenant_id AND inbox.intent_key = batch.intent_key
) AS inbox;

-- insert_inbox --
-- The one outcome of each record of the batch.
INSERT INTO inbox (tenant_id, intent_key, intent_id, ce_time, content_hash, topic, partition, "offset", outcome, code, fact_ids)
SELECT tenant_id, intent_key, intent_id, ce_time, content_hash, %(topic)s, partition, "offset", outcome, code, fact_ids::uuid[]
FROM unnest(
    %(tenant_id)b::text[], %(intent_key)b::uuid[], %(intent_id)b::text[], %(ce_time)b::timestamptz[], %(content_hash)b::bytea[],
    %(partition)b::int4[], %(offset)b::int8[], %(outcome)b::text[], %(code)b::text[], %(fact_ids)b::text[]
) AS row (tenant_id, intent_key, intent_id, ce_time, content_hash, partition, "offset", outcome, code, fact_ids);

-- advance_positions --
-- Everything below these offsets is decided.
INSERT INTO intake_position (topic, partition, next_offset)
SELECT %(topic)s, partition, next_offset
FROM unnest(%(partitions)s::int4[], %(next_offsets)s::int8[]) AS batch (partition, next_offset)
ORDER BY partition
ON CONFLICT (topic, partition) DO UPDATE SET next_offset = greatest(intake_position.next_offset, excluded.next_offset);
