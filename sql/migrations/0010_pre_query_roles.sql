-- The read side for roles that own nothing: sre_reader has EXECUTE on the operations, and they run as sre_query, which sees the one tenant
-- that was granted to whoever logged in. A get waits for no version: it says NOT_YET, and the client asks again.

COMMENT ON SCHEMA sre_query IS
    'Reads of committed state. A refusal is SRE01 TENANT_REQUIRED, SRE02 PAGE_SIZE_INVALID, SRE03 PAGE_TOKEN_INVALID, '
    'SRE04 TENANT_MISMATCH, SRE05 NOT_YET or SRE06 MIN_VERSION_INVALID, SQLSTATE and code; the message starts with the code.';

CREATE TABLE sre_query.reader_tenant (
    tenant text COLLATE "C" NOT NULL CHECK (tenant = '*' OR tenant ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'),
    reader regrole NOT NULL,
    PRIMARY KEY (tenant, reader)
);
COMMENT ON TABLE sre_query.reader_tenant IS 'Which tenants a role may read, one of them in a transaction. The owner writes it.';
COMMENT ON COLUMN sre_query.reader_tenant.tenant IS 'An asterisk, which no tenant can be called, stands for every tenant.';
COMMENT ON COLUMN sre_query.reader_tenant.reader IS
    'A login role, or a role whose rights it has. By its oid: a name that is used again inherits nothing.';
SELECT close_table('sre_query.reader_tenant');
CREATE POLICY grants ON sre_query.reader_tenant TO sre_owner USING (true) WITH CHECK (true);
CREATE POLICY grants_of_session ON sre_query.reader_tenant FOR SELECT TO sre_query USING (true);
GRANT SELECT ON sre_query.reader_tenant TO sre_query;

CREATE OR REPLACE FUNCTION sre_query.require_tenant(tenant text) RETURNS void
LANGUAGE plpgsql STABLE AS $$
DECLARE
    pinned text := nullif(current_setting('sre.tenant', true), '');
BEGIN
    IF (tenant COLLATE "C" ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$') IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'SRE01', MESSAGE = 'TENANT_REQUIRED: tenant must be present and well-formed';
    END IF;
    -- session_user, whom the server authenticated: SET ROLE does not change it. A superuser is a member of every role, so that its
    -- membership grants nothing.
    IF NOT EXISTS (
        SELECT FROM sre_query.reader_tenant AS granted
        JOIN pg_roles AS login ON login.rolname = session_user
        WHERE granted.tenant IN (require_tenant.tenant, '*')
            AND (granted.reader = login.oid OR NOT login.rolsuper AND pg_has_role(login.oid, granted.reader, 'USAGE'))
    ) THEN
        RAISE EXCEPTION USING ERRCODE = 'SRE04', MESSAGE = 'TENANT_MISMATCH: the tenant is not granted to this role';
    END IF;
    IF pinned IS NULL THEN
        PERFORM set_config('sre.tenant', tenant, true);
    ELSIF pinned <> tenant THEN
        RAISE EXCEPTION USING ERRCODE = 'SRE04', MESSAGE = 'TENANT_MISMATCH: this transaction reads another tenant';
    END IF;
END $$;
COMMENT ON FUNCTION sre_query.require_tenant IS
    'Makes this the tenant that row policies let sre_query see until the transaction ends. Raises SRE01 unless it has the shape of one, '
    'SRE04 unless it is granted to the session''s role and the only one of the transaction; whether it exists is not asked.';

CREATE FUNCTION sre_query.require_version(min_version bigint, version bigint) RETURNS void
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF min_version < 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'SRE06', MESSAGE = 'MIN_VERSION_INVALID: min_version must be 1 or more, and of one aggregate';
    ELSIF (version >= min_version) IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'SRE05', MESSAGE = format('NOT_YET: version %s is not visible yet', min_version);
    END IF;
END $$;
COMMENT ON FUNCTION sre_query.require_version IS
    'Raises SRE06 for what is no version, and SRE05 unless the other one, null where nothing is there, has reached it.';

DROP FUNCTION sre_query.get_slo(text, text);
CREATE FUNCTION sre_query.get_slo(tenant text, slo_id text, min_version bigint DEFAULT NULL) RETURNS SETOF sre_query.slo
LANGUAGE sql STABLE ROWS 1
BEGIN ATOMIC
    SELECT sre_query.require_tenant(tenant);
    SELECT sre_query.require_version(
        min_version, (SELECT slo.version FROM slo WHERE slo.tenant_id = tenant AND slo.slo_id = get_slo.slo_id)
    ) WHERE min_version IS NOT NULL;
    SELECT
        slo.tenant_id, slo.slo_id, slo.version, slo.created_at, slo.updated_at, slo.name, slo.description, slo.owner, slo.scope,
        slo.target, slo."window", slo.sli_good, slo.sli_total, slo.budgeting_method, slo.slice_seconds, slo.slice_target,
        slo.budget_status, slo.current_budget_remaining, slo.budget_consumed, slo.as_of, slo.measured_from,
        sre_query.page_token('slo', slo.tenant_id, slo.created_at, slo.slo_id)
    FROM slo
    WHERE slo.tenant_id = tenant AND slo.slo_id = get_slo.slo_id;
END;
COMMENT ON FUNCTION sre_query.get_slo IS
    'The SLO, at min_version or later where that is given, or no row. Raises SRE01, SRE04, SRE05 or SRE06.';

DROP FUNCTION sre_query.get_alert(text, text);
CREATE FUNCTION sre_query.get_alert(tenant text, alert_id text, min_version bigint DEFAULT NULL) RETURNS SETOF sre_query.alert
LANGUAGE sql STABLE ROWS 1
BEGIN ATOMIC
    SELECT sre_query.require_tenant(tenant);
    SELECT sre_query.require_version(
        min_version, (SELECT alert.version FROM alert WHERE alert.tenant_id = tenant AND alert.alert_id = get_alert.alert_id)
    ) WHERE min_version IS NOT NULL;
    SELECT
        alert.tenant_id, alert.alert_id, alert.version, alert.created_at, alert.updated_at, alert.source, alert.fingerprint, alert.name,
        alert.severity, alert.status, alert.labels, alert.annotations, alert.starts_at, alert.ends_at, alert.episode, alert.observed_at,
        alert.incident_id, alert.acknowledged_by, alert.acknowledged_at, alert.silenced_until, alert.silence_reason,
        sre_query.page_token('alert', alert.tenant_id, alert.created_at, alert.alert_id)
    FROM alert
    WHERE alert.tenant_id = tenant AND alert.alert_id = get_alert.alert_id;
END;
COMMENT ON FUNCTION sre_query.get_alert IS
    'The alert, at min_version or later where that is given, or no row. Raises SRE01, SRE04, SRE05 or SRE06.';

DROP FUNCTION sre_query.get_incident(text, text);
CREATE FUNCTION sre_query.get_incident(tenant text, incident_id text, min_version bigint DEFAULT NULL) RETURNS SETOF sre_query.incident
LANGUAGE sql STABLE ROWS 1
BEGIN ATOMIC
    SELECT sre_query.require_tenant(tenant);
    SELECT sre_query.require_version(
        min_version,
        (SELECT incident.version FROM incident WHERE incident.tenant_id = tenant AND incident.incident_id = get_incident.incident_id)
    ) WHERE min_version IS NOT NULL;
    SELECT
        incident.tenant_id, incident.incident_id, incident.version, incident.created_at, incident.updated_at, incident.title,
        incident.description, incident.severity, incident.status, incident.source, incident.affected_resources, incident.assigned_to,
        incident.acknowledged_by, incident.acknowledged_at, incident.resolution, incident.resolved_at, incident.merged_into,
        incident.alert_count, incident.status_changed_at, sre_query.incident_timeline(incident.tenant_id, incident.incident_id),
        sre_query.page_token('incident', incident.tenant_id, incident.created_at, incident.incident_id)
    FROM incident
    WHERE incident.tenant_id = tenant AND incident.incident_id = get_incident.incident_id;
END;
COMMENT ON FUNCTION sre_query.get_incident IS
    'The incident with its timeline, at min_version or later where that is given, or no row. Raises SRE01, SRE04, SRE05 or SRE06.';

DROP FUNCTION sre_query.get_runbook(text, text);
CREATE FUNCTION sre_query.get_runbook(tenant text, runbook_id text, min_version bigint DEFAULT NULL) RETURNS SETOF sre_query.runbook
LANGUAGE sql STABLE ROWS 1
BEGIN ATOMIC
    SELECT sre_query.require_tenant(tenant);
    SELECT sre_query.require_version(
        min_version, (SELECT runbook.version FROM runbook WHERE runbook.tenant_id = tenant AND runbook.runbook_id = get_runbook.runbook_id)
    ) WHERE min_version IS NOT NULL;
    SELECT
        runbook.tenant_id, runbook.runbook_id, runbook.version, runbook.created_at, runbook.updated_at, runbook.title, runbook.description,
        runbook.trigger_conditions, runbook.steps, runbook.automation_level, runbook.approval_required, runbook.owner, runbook.tags,
        runbook.definition_version,
        (
            SELECT coalesce(
                jsonb_agg(
                    jsonb_build_object(
                        'execution_id', execution.execution_id,
                        'definition_version', execution.definition_version,
                        'status', execution.status,
                        'requested_by', execution.requested_by,
                        'parameters', execution.parameters,
                        'incident_id', execution.incident_id,
                        'reason', execution.reason,
                        'approval_deadline', execution.approval_deadline,
                        'run_within_seconds', execution.run_within_seconds,
                        'run_deadline', execution.run_deadline,
                        'decided_by', execution.decided_by,
                        'outcome', execution.outcome,
                        'step_results', execution.step_results,
                        'summary', execution.summary
                    )
                    ORDER BY execution.execution_id
                ),
                '[]'
            )
            FROM runbook_execution AS execution
            WHERE execution.tenant_id = runbook.tenant_id AND execution.runbook_id = runbook.runbook_id AND execution.outcome IS NULL
        ),
        sre_query.page_token('runbook', runbook.tenant_id, runbook.created_at, runbook.runbook_id)
    FROM runbook
    WHERE runbook.tenant_id = tenant AND runbook.runbook_id = get_runbook.runbook_id;
END;
COMMENT ON FUNCTION sre_query.get_runbook IS
    'The runbook with its unfinished executions, at min_version or later where that is given, or no row. '
    'Raises SRE01, SRE04, SRE05 or SRE06.';

DROP FUNCTION sre_query.get_current_fleet_state(text, text, text, integer, text);
CREATE FUNCTION sre_query.get_current_fleet_state(
    tenant text, environment_id text, cluster_id text DEFAULT NULL, page_size integer DEFAULT 50, after text DEFAULT NULL,
    min_version bigint DEFAULT NULL
) RETURNS SETOF sre_query.fleet_state
LANGUAGE sql STABLE ROWS 50
BEGIN ATOMIC
    SELECT sre_query.require_tenant(tenant);
    -- Clusters have versions of their own: without the one that is meant, no version will do.
    SELECT sre_query.require_version(
        CASE WHEN get_current_fleet_state.cluster_id IS NULL THEN 0 ELSE min_version END,
        (
            SELECT fleetstate.version
            FROM fleetstate
            WHERE fleetstate.tenant_id = tenant
                AND fleetstate.environment_id = get_current_fleet_state.environment_id
                AND fleetstate.cluster_id = get_current_fleet_state.cluster_id
        )
    ) WHERE min_version IS NOT NULL;
    -- A place in one environment's list is none in another's.
    SELECT page.*
    FROM sre_query.page_start('fleetstate/' || get_current_fleet_state.environment_id, tenant, page_size, after) AS start
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
    'The current snapshot of each of an environment''s clusters, or of one, at min_version or later where that is given, by (created_at, '
    'stream_id), those behind the token `after`, at most page_size. Raises SRE01 to SRE06; SRE06 also for a min_version without a cluster.';

-- Every operation asks for the tenant in a statement of its own: what reads is not planned before, since a plan that is logged to
-- the client tells how many rows there may be.
CREATE OR REPLACE FUNCTION sre_query.page_start(
    list text, tenant text, page_size integer, after text, OUT created_at timestamptz, OUT aggregate_id text
)
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    place text[];
BEGIN
    IF page_size IS NULL OR page_size NOT BETWEEN 1 AND 200 THEN
        RAISE EXCEPTION USING ERRCODE = 'SRE02', MESSAGE = 'PAGE_SIZE_INVALID: page_size must be 1 to 200';
    END IF;
    IF after IS NULL THEN
        created_at := '-infinity';
        aggregate_id := '';
        RETURN;
    END IF;
    place := regexp_match(after COLLATE "C", '^[0-9a-f]{16}_(-[0-9]{1,17}|[0-9]{1,18})_([a-z0-9-]{1,64})$');
    created_at := timestamptz 'epoch' + (place[1] || ' microseconds')::interval;
    aggregate_id := place[2];
    IF after IS DISTINCT FROM sre_query.page_token(list, tenant, created_at, aggregate_id) THEN
        RAISE EXCEPTION USING ERRCODE = 'SRE03', MESSAGE = 'PAGE_TOKEN_INVALID: after must be a token of this tenant''s list';
    END IF;
END $$;
COMMENT ON FUNCTION sre_query.page_start IS 'The place in a list behind which a page begins; raises SRE02 or SRE03.';

CREATE OR REPLACE FUNCTION sre_query.list_slos(tenant text, page_size integer DEFAULT 50, after text DEFAULT NULL)
RETURNS SETOF sre_query.slo
LANGUAGE sql STABLE ROWS 50
BEGIN ATOMIC
    SELECT sre_query.require_tenant(tenant);
    -- Lateral, so that the order of the index is that of the page.
    SELECT page.*
    FROM sre_query.page_start('slo', tenant, page_size, after) AS start
    CROSS JOIN LATERAL (
        SELECT
            slo.tenant_id, slo.slo_id, slo.version, slo.created_at, slo.updated_at, slo.name, slo.description, slo.owner, slo.scope,
            slo.target, slo."window", slo.sli_good, slo.sli_total, slo.budgeting_method, slo.slice_seconds, slo.slice_target,
            slo.budget_status, slo.current_budget_remaining, slo.budget_consumed, slo.as_of, slo.measured_from,
            sre_query.page_token('slo', slo.tenant_id, slo.created_at, slo.slo_id)
        FROM slo
        WHERE slo.tenant_id = tenant AND (slo.created_at, slo.slo_id) > (start.created_at, start.aggregate_id)
        ORDER BY slo.created_at, slo.slo_id
        LIMIT page_size
    ) AS page;
END;

CREATE OR REPLACE FUNCTION sre_query.list_open_incidents(tenant text, page_size integer DEFAULT 50, after text DEFAULT NULL)
RETURNS SETOF sre_query.incident
LANGUAGE sql STABLE ROWS 50
BEGIN ATOMIC
    SELECT sre_query.require_tenant(tenant);
    -- Lateral, so that the order of the index is that of the page.
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

CREATE OR REPLACE FUNCTION sre_query.list_runbooks(tenant text, page_size integer DEFAULT 50, after text DEFAULT NULL)
RETURNS SETOF sre_query.runbook
LANGUAGE sql STABLE ROWS 50
BEGIN ATOMIC
    SELECT sre_query.require_tenant(tenant);
    -- Lateral, so that the order of the index is that of the page.
    SELECT page.*
    FROM sre_query.page_start('runbook', tenant, page_size, after) AS start
    CROSS JOIN LATERAL (
        SELECT
            runbook.tenant_id, runbook.runbook_id, runbook.version, runbook.created_at, runbook.updated_at, runbook.title,
            runbook.description, runbook.trigger_conditions, runbook.steps, runbook.automation_level, runbook.approval_required,
            runbook.owner, runbook.tags, runbook.definition_version, NULL::jsonb,
            sre_query.page_token('runbook', runbook.tenant_id, runbook.created_at, runbook.runbook_id)
        FROM runbook
        WHERE runbook.tenant_id = tenant AND (runbook.created_at, runbook.runbook_id) > (start.created_at, start.aggregate_id)
        ORDER BY runbook.created_at, runbook.runbook_id
        LIMIT page_size
    ) AS page;
END;

-- The list of an incident's alerts is another one than that of all, and has tokens of its own.
CREATE OR REPLACE FUNCTION sre_query.list_active_alerts(
    tenant text, incident_id text DEFAULT NULL, page_size integer DEFAULT 50, after text DEFAULT NULL
) RETURNS SETOF sre_query.alert
LANGUAGE sql STABLE ROWS 50
BEGIN ATOMIC
    SELECT sre_query.require_tenant(tenant);
    -- Two branches of which one runs: each has the index whose order is that of the page.
    SELECT
        alert.tenant_id, alert.alert_id, alert.version, alert.created_at, alert.updated_at, alert.source, alert.fingerprint, alert.name,
        alert.severity, alert.status, alert.labels, alert.annotations, alert.starts_at, alert.ends_at, alert.episode, alert.observed_at,
        alert.incident_id, alert.acknowledged_by, alert.acknowledged_at, alert.silenced_until, alert.silence_reason,
        sre_query.page_token(
            concat_ws('/', 'alert', list_active_alerts.incident_id), alert.tenant_id, alert.created_at, alert.alert_id
        )
    FROM sre_query.page_start(concat_ws('/', 'alert', list_active_alerts.incident_id), tenant, page_size, after) AS start
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

COMMENT ON FUNCTION sre_query.list_slos IS
    'A tenant''s SLOs by (created_at, slo_id), those behind the token `after`, at most page_size. Raises SRE01 to SRE04.';
COMMENT ON FUNCTION sre_query.list_open_incidents IS
    'A tenant''s incidents that are neither resolved nor closed, without timelines, by (created_at, incident_id), those behind the token '
    '`after`, at most page_size. Raises SRE01 to SRE04.';
COMMENT ON FUNCTION sre_query.list_runbooks IS
    'A tenant''s runbooks by (created_at, runbook_id) without executions, those behind the token `after`, at most page_size. '
    'Raises SRE01 to SRE04.';
COMMENT ON FUNCTION sre_query.list_active_alerts IS
    'A tenant''s firing alerts, acknowledged and silenced ones too, of one incident where it is given, by (created_at, alert_id), those '
    'behind the token `after`, at most page_size. Raises SRE01 to SRE04.';

-- The operations run as their owner and look names up where no caller can put any; what they call is not for the reader.
-- Whoever pins a tenant sets a variable, which no parallel worker may. No scans of whole tables: they take the longer the more other
-- tenants have.
DO $$
DECLARE
    routine regprocedure;
    is_operation boolean;
BEGIN
    FOR routine, is_operation IN
        SELECT oid, proname ~ '^(get|list)_' FROM pg_proc WHERE pronamespace = 'sre_query'::regnamespace
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC, sre_reader', routine);
        IF is_operation THEN
            EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER PARALLEL UNSAFE', routine);
            EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, pg_temp', routine);
            EXECUTE format('ALTER FUNCTION %s SET enable_seqscan = off', routine);
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO sre_reader', routine);
        END IF;
        EXECUTE format('ALTER FUNCTION %s OWNER TO sre_query', routine);
    END LOOP;
END $$;
REVOKE CREATE ON SCHEMA sre_query FROM sre_query;
