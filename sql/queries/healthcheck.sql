-- lock_rows --
-- The rows of these health checks, locked in the one order that all workers take.
SELECT
    tenant_id, healthcheck_id, version, created_at, updated_at, resource_ref, source, "timestamp", status, raw_status,
    conditions
FROM healthcheck
JOIN unnest(%(tenant_ids)b::text[], %(ids)b::text[]) AS batch (tenant_id, healthcheck_id) USING (tenant_id, healthcheck_id)
ORDER BY tenant_id, healthcheck_id
FOR UPDATE OF healthcheck;

-- insert_rows --
-- Rows that were absent when the batch looked; a unique violation says that another worker was first.
INSERT INTO healthcheck (
    tenant_id, healthcheck_id, version, created_at, updated_at, resource_ref, source, "timestamp", status, raw_status,
    conditions
)
SELECT * FROM unnest(
    %(tenant_id)b::text[], %(healthcheck_id)b::text[], %(version)b::int8[], %(created_at)b::timestamptz[],
    %(updated_at)b::timestamptz[], %(resource_ref)b::text[], %(source)b::text[], %(timestamp)b::timestamptz[],
    %(status)b::text[], %(raw_status)b::text[], %(conditions)b::jsonb[]
);

-- update_rows --
-- Rows that the batch locked, as it leaves them; resource and source never change.
UPDATE healthcheck SET
    version = row.version,
    updated_at = row.updated_at,
    "timestamp" = row."timestamp",
    status = row.status,
    raw_status = row.raw_status,
    conditions = row.conditions
FROM unnest(
    %(tenant_id)b::text[], %(healthcheck_id)b::text[], %(version)b::int8[], %(updated_at)b::timestamptz[],
    %(timestamp)b::timestamptz[], %(status)b::text[], %(raw_status)b::text[], %(conditions)b::jsonb[]
) AS row (
    tenant_id, healthcheck_id, version, updated_at, "timestamp", status, raw_status, conditions
)
WHERE healthcheck.tenant_id = row.tenant_id AND healthcheck.healthcheck_id = row.healthcheck_id;

-- all_rows --
-- Every health check, for an audit.
SELECT
    tenant_id, healthcheck_id, version, created_at, updated_at, resource_ref, source, "timestamp", status, raw_status,
    conditions
FROM healthcheck;
