-- HealthCheck and FleetState: a row each, the latest assessment of a resource by a source and the current snapshot of a cluster.

CREATE TABLE healthcheck (
    tenant_id text COLLATE "C" NOT NULL,
    healthcheck_id text COLLATE "C" NOT NULL,
    version bigint NOT NULL CHECK (version > 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    resource_ref text COLLATE "C" NOT NULL,
    source text NOT NULL CHECK (source IN ('argocd', 'probe', 'agent')),
    "timestamp" timestamptz NOT NULL,
    status text NOT NULL CHECK (status IN ('healthy', 'degraded', 'unhealthy', 'unknown')),
    raw_status text CHECK (source <> 'argocd' OR raw_status IS NOT NULL),
    conditions jsonb NOT NULL,
    PRIMARY KEY (tenant_id, healthcheck_id)
) WITH (fillfactor = 50);
COMMENT ON COLUMN healthcheck.healthcheck_id IS 'Follows from tenant_id, resource_ref and source.';
COMMENT ON COLUMN healthcheck.raw_status IS 'The source''s own word.';
COMMENT ON COLUMN healthcheck.conditions IS 'List of {type, status, reason, message}, in the source''s order.';

CREATE TABLE fleetstate (
    tenant_id text COLLATE "C" NOT NULL,
    stream_id text COLLATE "C" NOT NULL,
    version bigint NOT NULL CHECK (version > 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    fleetstate_id uuid NOT NULL,
    environment_id text COLLATE "C" NOT NULL,
    cluster_id text COLLATE "C" NOT NULL,
    "timestamp" timestamptz NOT NULL,
    total_applications bigint NOT NULL,
    healthy_count bigint NOT NULL CHECK (healthy_count >= 0),
    degraded_count bigint NOT NULL CHECK (degraded_count >= 0),
    progressing_count bigint NOT NULL CHECK (progressing_count >= 0),
    unknown_count bigint NOT NULL CHECK (unknown_count >= 0),
    out_of_sync_count bigint NOT NULL CHECK (out_of_sync_count BETWEEN 0 AND total_applications),
    PRIMARY KEY (tenant_id, stream_id),
    CHECK (healthy_count + degraded_count + progressing_count + unknown_count = total_applications)
) WITH (fillfactor = 50);
COMMENT ON COLUMN fleetstate.stream_id IS 'The aggregate''s id: follows from tenant_id, environment_id and cluster_id.';
COMMENT ON COLUMN fleetstate.version IS 'Counts the snapshots.';
COMMENT ON COLUMN fleetstate.fleetstate_id IS 'Names the current snapshot: ce_id of its fact.';

CREATE INDEX fleetstate_by_creation ON fleetstate (tenant_id, environment_id, created_at, stream_id);

CREATE TYPE sre_query.fleet_state AS (
    tenant_id text,
    stream_id text,
    version bigint,
    created_at timestamptz,
    updated_at timestamptz,
    fleetstate_id uuid,
    environment_id text,
    cluster_id text,
    "timestamp" timestamptz,
    total_applications bigint,
    healthy_count bigint,
    degraded_count bigint,
    progressing_count bigint,
    unknown_count bigint,
    out_of_sync_count bigint,
    page_token text
);
COMMENT ON TYPE sre_query.fleet_state IS
    'The current snapshot of a cluster''s applications. With page_token get_current_fleet_state goes on behind the row.';

CREATE FUNCTION sre_query.get_current_fleet_state(
    tenant text, environment_id text, cluster_id text DEFAULT NULL, page_size integer DEFAULT 50, after text DEFAULT NULL
) RETURNS SETOF sre_query.fleet_state
LANGUAGE sql STABLE PARALLEL SAFE ROWS 50
BEGIN ATOMIC
    -- A place in one environment's list is none in another's.
    SELECT page.*
    FROM sre_query.page_start(
        'fleetstate/' || get_current_fleet_state.environment_id, tenant, page_size, after
    ) AS start
    CROSS JOIN LATERAL (
        SELECT
            fleetstate.tenant_id, fleetstate.stream_id, fleetstate.version, fleetstate.created_at, fleetstate.updated_at,
            fleetstate.fleetstate_id, fleetstate.environment_id, fleetstate.cluster_id, fleetstate."timestamp",
            fleetstate.total_applications, fleetstate.healthy_count, fleetstate.degraded_count, fleetstate.progressing_count,
            fleetstate.unknown_count, fleetstate.out_of_sync_count,
            sre_query.page_token(
                'fleetstate/' || fleetstate.environment_id, fleetstate.tenant_id, fleetstate.created_at, fleetstate.stream_id
            )
        FROM fleetstate
        WHERE fleetstate.tenant_id = tenant
            AND fleetstate.environment_id = get_current_fleet_state.environment_id
            AND (get_current_fleet_state.cluster_id IS NULL OR fleetstate.cluster_id = get_current_fleet_state.cluster_id)
            AND (fleetstate.created_at, fleetstate.stream_id) > (start.created_at, start.aggregate_id)
        ORDER BY fleetstate.created_at, fleetstate.stream_id
        LIMIT page_size
    ) AS page;
END;
COMMENT ON FUNCTION sre_query.get_current_fleet_state IS
    'The current snapshot of each of an environment''s clusters, or of one, by (created_at, stream_id), those behind the token `after`, '
    'at most page_size. Raises SRE01, SRE02 or SRE03.';
