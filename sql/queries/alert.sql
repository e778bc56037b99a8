-- lock_rows --
-- The rows of these alerts, locked in the one order that all workers take.
SELECT
    tenant_id, alert_id, version, created_at, updated_at, source, fingerprint, name, severity, status, labels, annotations, starts_at,
    ends_at, episode, observed_at, incident_id, acknowledged_by, acknowledged_at, silenced_until, silence_reason
FROM alert
JOIN unnest(%(tenant_ids)b::text[], %(ids)b::text[]) AS batch (tenant_id, alert_id) USING (tenant_id, alert_id)
ORDER BY tenant_id, alert_id
FOR UPDATE OF alert;

-- insert_rows --
-- Rows that were absent when the batch looked; a unique violation says that another worker was first.
INSERT INTO alert (
    tenant_id, alert_id, version, created_at, updated_at, source, fingerprint, name, severity, status, labels, annotations, starts_at,
    ends_at, episode, observed_at, incident_id, acknowledged_by, acknowledged_at, silenced_until, silence_reason
)
SELECT * FROM unnest(
    %(tenant_id)b::text[], %(alert_id)b::text[], %(version)b::int8[], %(created_at)b::timestamptz[], %(updated_at)b::timestamptz[],
    %(source)b::text[], %(fingerprint)b::text[], %(name)b::text[], %(severity)b::text[], %(status)b::text[], %(labels)b::jsonb[],
    %(annotations)b::jsonb[], %(starts_at)b::timestamptz[], %(ends_at)b::timestamptz[], %(episode)b::int4[],
    %(observed_at)b::timestamptz[], %(incident_id)b::text[], %(acknowledged_by)b::text[], %(acknowledged_at)b::timestamptz[],
    %(silenced_until)b::timestamptz[], %(silence_reason)b::text[]
);

-- update_rows --
-- Rows that the batch locked, as it leaves them; what the id follows from stays.
UPDATE alert SET
    version = row.version,
    updated_at = row.updated_at,
    name = row.name,
    severity = row.severity,
    status = row.status,
    labels = row.labels,
    annotations = row.annotations,
    starts_at = row.starts_at,
    ends_at = row.ends_at,
    episode = row.episode,
    observed_at = row.observed_at,
    incident_id = row.incident_id,
    acknowledged_by = row.acknowledged_by,
    acknowledged_at = row.acknowledged_at,
    silenced_until = row.silenced_until,
    silence_reason = row.silence_reason
FROM unnest(
    %(tenant_id)b::text[], %(alert_id)b::text[], %(version)b::int8[], %(created_at)b::timestamptz[], %(updated_at)b::timestamptz[],
    %(source)b::text[], %(fingerprint)b::text[], %(name)b::text[], %(severity)b::text[], %(status)b::text[], %(labels)b::jsonb[],
    %(annotations)b::jsonb[], %(starts_at)b::timestamptz[], %(ends_at)b::timestamptz[], %(episode)b::int4[],
    %(observed_at)b::timestamptz[], %(incident_id)b::text[], %(acknowledged_by)b::text[], %(acknowledged_at)b::timestamptz[],
    %(silenced_until)b::timestamptz[], %(silence_reason)b::text[]
) AS row (
    tenant_id, alert_id, version, created_at, updated_at, source, fingerprint, name, severity, status, labels, annotations, starts_at,
    ends_at, episode, observed_at, incident_id, acknowledged_by, acknowledged_at, silenced_until, silence_reason
)
WHERE alert.tenant_id = row.tenant_id AND alert.alert_id = row.alert_id;

-- all_rows --
-- Every alert, for an audit.
SELECT
    tenant_id, alert_id, version, created_at, updated_at, source, fingerprint, name, severity, status, labels, annotations, starts_at,
    ends_at, episode, observed_at, incident_id, acknowledged_by, acknowledged_at, silenced_until, silence_reason
FROM alert;
