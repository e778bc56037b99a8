-- lock_rows --
-- The rows of these fleet states, locked in the one order that all workers take.
SELECT
    tenant_id, stream_id, version, created_at, updated_at, fleetstate_id, environment_id, cluster_id, "timestamp",
    total_applications, healthy_count, degraded_count, progressing_count, unknown_count, out_of_sync_count
FROM fleetstate
JOIN unnest(%(tenant_ids)b::text[], %(ids)b::text[]) AS batch (tenant_id, stream_id) USING (tenant_id, stream_id)
ORDER BY tenant_id, stream_id
FOR UPDATE OF fleetstate;

-- insert_rows --
-- Rows that were absent when the batch looked; a unique violation says that another worker was first.
INSERT INTO fleetstate (
    tenant_id, stream_id, version, created_at, updated_at, fleetstate_id, environment_id, cluster_id, "timestamp",
    total_applications, healthy_count, degraded_count, progressing_count, unknown_count, out_of_sync_count
)
SELECT * FROM unnest(
    %(tenant_id)b::text[], %(stream_id)b::text[], %(version)b::int8[], %(created_at)b::timestamptz[],
    %(updated_at)b::timestamptz[], %(fleetstate_id)b::uuid[], %(environment_id)b::text[], %(cluster_id)b::text[],
    %(timestamp)b::timestamptz[], %(total_applications)b::int8[], %(healthy_count)b::int8[], %(degraded_count)b::int8[],
    %(progressing_count)b::int8[], %(unknown_count)b::int8[], %(out_of_sync_count)b::int8[]
);

-- update_rows --
-- Rows that the batch locked, as it leaves them; environment and cluster never change.
UPDATE fleetstate SET
    version = row.version,
    updated_at = row.updated_at,
    fleetstate_id = row.fleetstate_id,
    "timestamp" = row."timestamp",
    total_applications = row.total_applications,
    healthy_count = row.healthy_count,
    degraded_count = row.degraded_count,
    progressing_count = row.progressing_count,
    unknown_count = row.unknown_count,
    out_of_sync_count = row.out_of_sync_count
FROM unnest(
    %(tenant_id)b::text[], %(stream_id)b::text[], %(version)b::int8[], %(updated_at)b::timestamptz[], %(fleetstate_id)b::uuid[],
    %(timestamp)b::timestamptz[], %(total_applications)b::int8[], %(healthy_count)b::int8[], %(degraded_count)b::int8[],
    %(progressing_count)b::int8[], %(unknown_count)b::int8[], %(out_of_sync_count)b::int8[]
) AS row (
    tenant_id, stream_id, version, updated_at, fleetstate_id, "timestamp", total_applications, healthy_count, degraded_count,
    progressing_count, unknown_count, out_of_sync_count
)
WHERE fleetstate.tenant_id = row.tenant_id AND fleetstate.stream_id = row.stream_id;

-- all_rows --
-- Every fleet state, for an audit.
SELECT
    tenant_id, stream_id, version, created_at, updated_at, fleetstate_id, environment_id, cluster_id, "timestamp",
    total_applications, healthy_count, degraded_count, progressing_count, unknown_count, out_of_sync_count
FROM fleetstate;
