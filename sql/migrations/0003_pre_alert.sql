-- Alert: a row each, and its read side.

CREATE TABLE alert (
    tenant_id text COLLATE "C" NOT NULL,
    alert_id text COLLATE "C" NOT NULL,
    version bigint NOT NULL CHECK (version > 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    source text NOT NULL CHECK (source IN ('prometheus', 'custom')),
    fingerprint text NOT NULL,
    name text NOT NULL,
    severity text NOT NULL CHECK (severity IN ('critical', 'high', 'medium', 'low')),
    status text NOT NULL CHECK (status IN ('firing', 'resolved')),
    labels jsonb NOT NULL CHECK (labels <> '{}'),
    annotations jsonb NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz CHECK (ends_at >= starts_at),
    episode integer NOT NULL CHECK (episode > 0),
    observed_at timestamptz NOT NULL,
    incident_id text COLLATE "C",
    acknowledged_by text,
    acknowledged_at timestamptz,
    silenced_until timestamptz,
    silence_reason text,
    PRIMARY KEY (tenant_id, alert_id),
    CHECK ((status = 'firing') = (ends_at IS NULL)),
    CHECK ((acknowledged_by IS NULL) = (acknowledged_at IS NULL)),
    CHECK ((silenced_until IS NULL) = (silence_reason IS NULL))
) WITH (fillfactor = 50);
COMMENT ON COLUMN alert.episode IS 'Grows when a resolved alert fires again; acknowledged_* and incident_id are of the current one.';
COMMENT ON COLUMN alert.observed_at IS 'Greatest ce_time of the intents that changed what the source says.';
COMMENT ON COLUMN alert.silenced_until IS 'The silence is in force while this lies ahead; it outlives episodes.';

CREATE INDEX alert_firing ON alert (tenant_id, created_at, alert_id) WHERE status = 'firing';
CREATE INDEX alert_firing_of_incident ON alert (tenant_id, incident_id, created_at, alert_id)
    WHERE status = 'firing' AND incident_id IS NOT NULL;

CREATE TYPE sre_query.alert AS (
    tenant_id text,
    alert_id text,
    version bigint,
    created_at timestamptz,
    updated_at timestamptz,
    source text,
    fingerprint text,
    name text,
    severity text,
    status text,
    labels jsonb,
    annotations jsonb,
    starts_at timestamptz,
    ends_at timestamptz,
    episode integer,
    observed_at timestamptz,
    incident_id text,
    acknowledged_by text,
    acknowledged_at timestamptz,
    silenced_until timestamptz,
    silence_reason text,
    page_token text
);
COMMENT ON TYPE sre_query.alert IS
    'An alert; labels and annotations are objects of strings. With page_token list_active_alerts goes on behind the row.';

CREATE FUNCTION sre_query.get_alert(tenant text, alert_id text) RETURNS SETOF sre_query.alert
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
BEGIN ATOMIC
    SELECT sre_query.require_tenant(tenant);
    SELECT
        alert.tenant_id, alert.alert_id, alert.version, alert.created_at, alert.updated_at, alert.source, alert.fingerprint, alert.name,
        alert.severity, alert.status, alert.labels, alert.annotations, alert.starts_at, alert.ends_at, alert.episode, alert.observed_at,
        alert.incident_id, alert.acknowledged_by, alert.acknowledged_at, alert.silenced_until, alert.silence_reason,
        sre_query.page_token('alert', alert.tenant_id, alert.created_at, alert.alert_id)
    FROM alert
    WHERE alert.tenant_id = tenant AND alert.alert_id = get_alert.alert_id;
END;
COMMENT ON FUNCTION sre_query.get_alert IS 'The alert, or no row. Raises SRE01.';

CREATE FUNCTION sre_query.list_active_alerts(
    tenant text, incident_id text DEFAULT NULL, page_size integer DEFAULT 50, after text DEFAULT NULL
) RETURNS SETOF sre_query.alert
LANGUAGE sql STABLE PARALLEL SAFE ROWS 50
BEGIN ATOMIC
    -- Two branches of which one runs: each has the index whose order is that of the page.
    SELECT
        alert.tenant_id, alert.alert_id, alert.version, alert.created_at, alert.updated_at, alert.source, alert.fingerprint, alert.name,
        alert.severity, alert.status, alert.labels, alert.annotations, alert.starts_at, alert.ends_at, alert.episode, alert.observed_at,
        alert.incident_id, alert.acknowledged_by, alert.acknowledged_at, alert.silenced_until, alert.silence_reason,
        sre_query.page_token('alert', alert.tenant_id, alert.created_at, alert.alert_id)
    FROM sre_query.page_start('alert', tenant, page_size, after) AS start
    CROSS JOIN LATERAL (
        (
            SELECT firing.*
            FROM alert AS firing
            WHERE list_active_alerts.incident_id IS NULL AND firing.tenant_id = tenant AND firing.status = 'firing'
                AND (firing.created_at, firing.alert_id) > (start.created_at, start.aggregate_id)
            ORDER BY firing.created_at, firing.alert_id
            LIMIT page_size
        )
        UNION ALL
        (
            SELECT firing.*
            FROM alert AS firing
            WHERE firing.incident_id = list_active_alerts.incident_id AND firing.tenant_id = tenant AND firing.status = 'firing'
                AND (firing.created_at, firing.alert_id) > (start.created_at, start.aggregate_id)
            ORDER BY firing.created_at, firing.alert_id
            LIMIT page_size
        )
    ) AS alert
    ORDER BY alert.created_at, alert.alert_id;
END;
COMMENT ON FUNCTION sre_query.list_active_alerts IS
    'A tenant''s firing alerts, acknowledged and silenced ones too, of one incident where it is given, by (created_at, alert_id), those '
    'behind the token `after`, at most page_size. Raises SRE01, SRE02 or SRE03.';
