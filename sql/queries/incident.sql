-- lock_rows --
-- The rows of these incidents, locked in the one order that all workers take; their timelines are not read.
SELECT
    tenant_id, incident_id, version, created_at, updated_at, title, description, severity, status, source, affected_resources, assigned_to,
    timeline_length, acknowledged_by, acknowledged_at, resolution, resolved_at, merged_into, alert_count, status_changed_at
FROM incident
JOIN unnest(%(tenant_ids)b::text[], %(ids)b::text[]) AS batch (tenant_id, incident_id) USING (tenant_id, incident_id)
ORDER BY tenant_id, incident_id
FOR UPDATE OF incident;

-- insert_rows --
-- Rows that were absent when the batch looked; a unique violation says that another worker was first.
INSERT INTO incident (
    tenant_id, incident_id, version, created_at, updated_at, title, description, severity, status, source, affected_resources, assigned_to,
    timeline_length, acknowledged_by, acknowledged_at, resolution, resolved_at, merged_into, alert_count, status_changed_at
)
SELECT * FROM unnest(
    %(tenant_id)b::text[], %(incident_id)b::text[], %(version)b::int8[], %(created_at)b::timestamptz[], %(updated_at)b::timestamptz[],
    %(title)b::text[], %(description)b::text[], %(severity)b::text[], %(status)b::text[], %(source)b::text[],
    %(affected_resources)b::jsonb[], %(assigned_to)b::text[], %(timeline_length)b::int4[], %(acknowledged_by)b::text[],
    %(acknowledged_at)b::timestamptz[], %(resolution)b::text[], %(resolved_at)b::timestamptz[], %(merged_into)b::text[],
    %(alert_count)b::int4[], %(status_changed_at)b::timestamptz[]
);

-- update_rows --
-- Rows that the batch locked, as it leaves them; title, description and source never change.
UPDATE incident SET
    version = row.version,
    updated_at = row.updated_at,
    severity = row.severity,
    status = row.status,
    affected_resources = row.affected_resources,
    assigned_to = row.assigned_to,
    timeline_length = row.timeline_length,
    acknowledged_by = row.acknowledged_by,
    acknowledged_at = row.acknowledged_at,
    resolution = row.resolution,
    resolved_at = row.resolved_at,
    merged_into = row.merged_into,
    alert_count = row.alert_count,
    status_changed_at = row.status_changed_at
FROM unnest(
    %(tenant_id)b::text[], %(incident_id)b::text[], %(version)b::int8[], %(updated_at)b::timestamptz[], %(severity)b::text[],
    %(status)b::text[], %(affected_resources)b::jsonb[], %(assigned_to)b::text[], %(timeline_length)b::int4[],
    %(acknowledged_by)b::text[], %(acknowledged_at)b::timestamptz[], %(resolution)b::text[], %(resolved_at)b::timestamptz[],
    %(merged_into)b::text[], %(alert_count)b::int4[], %(status_changed_at)b::timestamptz[]
) AS row (
    tenant_id, incident_id, version, updated_at, severity, status, affected_resources, assigned_to, timeline_length, acknowledged_by,
    acknowledged_at, resolution, resolved_at, merged_into, alert_count, status_changed_at
)
WHERE incident.tenant_id = row.tenant_id AND incident.incident_id = row.incident_id;

-- insert_entries --
-- What the batch added to timelines.
INSERT INTO incident_timeline (tenant_id, incident_id, position, entry_id, kind, text, occurred_at, actor)
SELECT * FROM unnest(
    %(tenant_id)b::text[], %(incident_id)b::text[], %(position)b::int4[], %(entry_id)b::text[]::uuid[], %(kind)b::text[], %(text)b::text[],
    %(occurred_at)b::timestamptz[], %(actor)b::text[]
);

-- all_rows --
-- Every incident, for an audit.
SELECT
    tenant_id, incident_id, version, created_at, updated_at, title, description, severity, status, source, affected_resources, assigned_to,
    timeline_length, acknowledged_by, acknowledged_at, resolution, resolved_at, merged_into, alert_count, status_changed_at
FROM incident;

-- all_entries --
-- Every timeline, each in its order, for an audit.
SELECT tenant_id, incident_id, entry_id::text, kind, text, occurred_at, actor
FROM incident_timeline
ORDER BY tenant_id, incident_id, position;
