-- slot --
-- Its columns differ between versions of PostgreSQL.
SELECT to_jsonb(found) FROM pg_replication_slots AS found WHERE slot_name = %(slot)s;

-- drop_slot --
SELECT pg_drop_replication_slot(%(slot)s);

-- fast_sorts --
-- What hashes and sorts take of memory before they go to disk.
SET LOCAL work_mem = '32MB';

-- outbox_topics --
SELECT topic, max(partition), count(*), extract(epoch FROM min("timestamp") AT TIME ZONE 'UTC')::bigint * 1000 FROM outbox GROUP BY topic;

-- make_topic_record --
-- What the topics hold is compared here, so that the memory of a rebuild doesn't grow with them.
CREATE TEMPORARY TABLE topic_record (
    id uuid, content bytea, aggregatetype text COLLATE "C", tenant_id text COLLATE "C", aggregateid text COLLATE "C", version bigint
) ON COMMIT DROP;

-- fill_topic_record --
COPY topic_record FROM STDIN (FORMAT binary);

-- analyze_topic_record --
ANALYZE topic_record;

-- missing --
SELECT topic, count(*) FROM outbox WHERE NOT EXISTS (SELECT FROM topic_record WHERE topic_record.id = outbox.id) GROUP BY topic ORDER BY topic;

-- overtaken --
-- Aggregates with a fact missing whose successor is in the topic, and the versions of the two.
SELECT aggregatetype, tenant_id, aggregateid, min(outbox.aggregate_version), max(reached.version), count(*) OVER ()
FROM outbox
JOIN (SELECT aggregatetype, tenant_id, aggregateid, max(version) AS version FROM topic_record GROUP BY aggregatetype, tenant_id, aggregateid) AS reached
    USING (aggregatetype, tenant_id, aggregateid)
WHERE reached.version > outbox.aggregate_version AND NOT EXISTS (SELECT FROM topic_record WHERE topic_record.id = outbox.id)
GROUP BY aggregatetype, tenant_id, aggregateid
ORDER BY aggregatetype, tenant_id, aggregateid
LIMIT 10;

-- forgotten --
-- Aggregates of which the topic has a version that the database has not reached, or another fact under the same id; and the first such version.
-- A fact that has left the outbox after its retention is known by the version that its aggregate has reached.
WITH
latest AS (
    SELECT 'slo' AS aggregatetype, tenant_id, slo_id AS aggregateid, version FROM slo
    UNION ALL SELECT 'alert', tenant_id, alert_id, version FROM alert
    UNION ALL SELECT 'incident', tenant_id, incident_id, version FROM incident
    UNION ALL SELECT 'runbook', tenant_id, runbook_id, version FROM runbook
    UNION ALL SELECT 'healthcheck', tenant_id, healthcheck_id, version FROM healthcheck
    UNION ALL SELECT 'fleetstate', tenant_id, stream_id, version FROM fleetstate
),
unknown AS (
    SELECT aggregatetype, tenant_id, aggregateid, version FROM topic_record
    WHERE version IS NOT NULL AND NOT EXISTS (SELECT FROM outbox WHERE outbox.id = topic_record.id)
),
forgotten AS (
    SELECT aggregatetype, tenant_id, aggregateid, unknown.version
    FROM unknown LEFT JOIN latest USING (aggregatetype, tenant_id, aggregateid)
    WHERE unknown.version > coalesce(latest.version, 0)
    UNION ALL
    SELECT outbox.aggregatetype, outbox.tenant_id, outbox.aggregateid, outbox.aggregate_version
    FROM outbox JOIN topic_record USING (id)
    WHERE topic_record.content <> sha256(payload || convert_to(ce_time || coalesce(causation_id, ''), 'UTF8'))
)
SELECT aggregatetype, tenant_id, aggregateid, min(version), count(*) OVER ()
FROM forgotten
GROUP BY aggregatetype, tenant_id, aggregateid
ORDER BY aggregatetype, tenant_id, aggregateid
LIMIT 10;

-- outbox_shape --
SELECT * FROM outbox LIMIT 0;

-- missing_rows --
-- Versions of an aggregate in their order, which times of transactions that waited for each other need not have; else about as they were committed.
COPY (
    SELECT * FROM outbox
    WHERE NOT EXISTS (SELECT FROM topic_record WHERE topic_record.id = outbox.id)
    ORDER BY max("timestamp") OVER (PARTITION BY aggregatetype, tenant_id, aggregateid ORDER BY aggregate_version), aggregate_version
) TO STDOUT (FORMAT binary);
