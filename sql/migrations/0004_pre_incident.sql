-- Incidents: a row each, and a row for each entry of their timelines.

CREATE TABLE incident (
    tenant_id text COLLATE "C" NOT NULL,
    incident_id text COLLATE "C" NOT NULL,
    version bigint NOT NULL CHECK (version > 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    title text NOT NULL,
    description text NOT NULL,
    severity text NOT NULL CHECK (severity IN ('critical', 'high', 'medium', 'low')),
    status text NOT NULL CHECK (status IN ('open', 'acknowledged', 'investigating', 'mitigating', 'resolved', 'closed')),
    source text NOT NULL CHECK (source IN ('alert', 'manual', 'agent')),
    affected_resources jsonb NOT NULL CHECK (jsonb_array_length(affected_resources) <= 100),
    assigned_to text,
    timeline_length integer NOT NULL CHECK (timeline_length BETWEEN 0 AND 500),
    acknowledged_by text,
    acknowledged_at timestamptz,
    resolution text,
    resolved_at timestamptz,
    merged_into text COLLATE "C",
    alert_count integer NOT NULL CHECK (alert_count >= 0),
    status_changed_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, incident_id),
    CHECK ((acknowledged_by IS NULL) = (acknowledged_at IS NULL)),
    CHECK ((resolution IS NULL) = (resolved_at IS NULL)),
    CHECK (status <> 'resolved' OR resolved_at IS NOT NULL),
    CHECK (merged_into IS NULL OR status = 'closed')
) WITH (fillfactor = 50);
COMMENT ON TABLE incident IS 'Incidents as their facts left them.';
COMMENT ON COLUMN incident.affected_resources IS 'An array of resource references, in order.';
COMMENT ON COLUMN incident.timeline_length IS 'Rows of incident_timeline: a batch counts on without reading them.';
COMMENT ON COLUMN incident.merged_into IS 'The incident that goes on in place of this one, which was closed by a merge.';
COMMENT ON COLUMN incident.alert_count IS 'Alerts that were correlated to it, over its life.';
COMMENT ON COLUMN incident.status_changed_at IS 'Greatest ce_time of the facts that set status.';

CREATE TABLE incident_timeline (
    tenant_id text COLLATE "C" NOT NULL,
    incident_id text COLLATE "C" NOT NULL,
    position integer NOT NULL CHECK (position BETWEEN 1 AND 500),
    entry_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('note', 'observation', 'action', 'decision', 'communication')),
    text text NOT NULL,
    occurred_at timestamptz NOT NULL,
    actor text NOT NULL,
    PRIMARY KEY (tenant_id, incident_id, position),
    FOREIGN KEY (tenant_id, incident_id) REFERENCES incident (tenant_id, incident_id) ON DELETE CASCADE
);
COMMENT ON TABLE incident_timeline IS 'Append-only: no entry is ever changed.';
COMMENT ON COLUMN incident_timeline.position IS 'From 1, in the order of the versions that added the entries.';
COMMENT ON COLUMN incident_timeline.entry_id IS 'ce_id of the fact that added the entry.';

CREATE INDEX incident_unresolved_by_creation ON incident (tenant_id, created_at, incident_id)
WHERE status NOT IN ('resolved', 'closed');

CREATE TYPE sre_query.incident AS (
    tenant_id text,
    incident_id text,
    version bigint,
    created_at timestamptz,
    updated_at timestamptz,
    title text,
    description text,
    severity text,
    status text,
    source text,
    affected_resources jsonb,
    assigned_to text,
    acknowledged_by text,
    acknowledged_at timestamptz,
    resolution text,
    resolved_at timestamptz,
    merged_into text,
    alert_count integer,
    status_changed_at timestamptz,
    timeline jsonb,
    page_token text
);
COMMENT ON TYPE sre_query.incident IS
    'An incident. timeline is null in a list, else an array of {entry_id, kind, text, occurred_at, actor}, occurred_at in UTC. '
    'With page_token list_open_incidents goes on behind the row.';

CREATE FUNCTION sre_query.incident_timeline(tenant text, incident_id text) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT coalesce(
        jsonb_agg(
            jsonb_build_object(
                'entry_id', entry.entry_id,
                'kind', entry.kind,
                'text', entry.text,
                'occurred_at', to_char(entry.occurred_at AT TIME ZONE 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                'actor', entry.actor
            )
            ORDER BY entry.position
        ),
        '[]'
    )
    FROM incident_timeline AS entry
    WHERE entry.tenant_id = tenant AND entry.incident_id = incident_timeline.incident_id;
END;
COMMENT ON FUNCTION sre_query.incident_timeline IS 'The entries in their order; an empty array where there are none.';

CREATE FUNCTION sre_query.get_incident(tenant text, incident_id text) RETURNS SETOF sre_query.incident
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
BEGIN ATOMIC
    SELECT sre_query.require_tenant(tenant);
    SELECT
        incident.tenant_id, incident.incident_id, incident.version, incident.created_at, incident.updated_at, incident.title,
        incident.description, incident.severity, incident.status, incident.source, incident.affected_resources, incident.assigned_to,
        incident.acknowledged_by, incident.acknowledged_at, incident.resolution, incident.resolved_at, incident.merged_into,
        incident.alert_count, incident.status_changed_at, sre_query.incident_timeline(incident.tenant_id, incident.incident_id),
        sre_query.page_token('incident', incident.tenant_id, incident.created_at, incident.incident_id)
    FROM incident
    WHERE incident.tenant_id = tenant AND incident.incident_id = get_incident.incident_id;
END;
COMMENT ON FUNCTION sre_query.get_incident IS 'The incident with its timeline, or no row. Raises SRE01.';

CREATE FUNCTION sre_query.list_open_incidents(tenant text, page_size integer DEFAULT 50, after text DEFAULT NULL)
RETURNS SETOF sre_query.incident
LANGUAGE sql STABLE PARALLEL SAFE ROWS 50
BEGIN ATOMIC
    -- Lateral, so that the arguments are checked before a row is read, and the order of the index is that of the page.
    SELECT page.*
    FROM sre_query.page_start('incident', tenant, page_size, after) AS start
    CROSS JOIN LATERAL (
        SELECT
            incident.tenant_id, incident.incident_id, incident.version, incident.created_at, incident.updated_at, incident.title,
            incident.description, incident.severity, incident.status, incident.source, incident.affected_resources,
            incident.assigned_to, incident.acknowledged_by, incident.acknowledged_at, incident.resolution, incident.resolved_at,
            incident.merged_into, incident.alert_count, incident.status_changed_at, NULL::jsonb,
            sre_query.page_token('incident', incident.tenant_id, incident.created_at, incident.incident_id)
        FROM incident
        WHERE incident.tenant_id = tenant
            AND incident.status NOT IN ('resolved', 'closed')
            AND (incident.created_at, incident.incident_id) > (start.created_at, start.aggregate_id)
        ORDER BY incident.created_at, incident.incident_id
        LIMIT page_size
    ) AS page;
END;
COMMENT ON FUNCTION sre_query.list_open_incidents IS
    'A tenant''s incidents that are neither resolved nor closed, without timelines, by (created_at, incident_id), those behind the token '
    '`after`, at most page_size. Raises SRE01, SRE02 or SRE03.';
