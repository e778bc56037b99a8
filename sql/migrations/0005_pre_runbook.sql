-- Runbooks and their executions, and the reads of both.

CREATE TABLE runbook (
    tenant_id text COLLATE "C" NOT NULL,
    runbook_id text COLLATE "C" NOT NULL,
    version bigint NOT NULL CHECK (version > 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    title text NOT NULL,
    description text NOT NULL,
    trigger_conditions jsonb NOT NULL,
    steps jsonb NOT NULL CHECK (jsonb_array_length(steps) > 0),
    automation_level text NOT NULL CHECK (automation_level IN ('manual', 'assisted', 'automated')),
    approval_required boolean NOT NULL,
    owner text NOT NULL,
    tags jsonb NOT NULL,
    definition_version bigint NOT NULL CHECK (definition_version BETWEEN 1 AND version),
    PRIMARY KEY (tenant_id, runbook_id)
) WITH (fillfactor = 50);
COMMENT ON COLUMN runbook.steps IS 'In order: [{step_id, title, instruction, action}], action null for a step done by hand.';
COMMENT ON COLUMN runbook.definition_version IS 'Version of the last RunbookCreated or RunbookUpdated.';
CREATE INDEX runbook_by_creation ON runbook (tenant_id, created_at, runbook_id);

CREATE TABLE runbook_execution (
    tenant_id text COLLATE "C" NOT NULL,
    runbook_id text COLLATE "C" NOT NULL,
    execution_id uuid NOT NULL,
    definition_version bigint NOT NULL,
    status text NOT NULL CHECK (
        status IN ('pending_approval', 'running', 'rejected', 'expired', 'cancelled', 'succeeded', 'failed', 'timed_out')
    ),
    requested_by text NOT NULL,
    parameters jsonb NOT NULL,
    incident_id uuid,
    reason text NOT NULL,
    approval_deadline timestamptz,
    run_within_seconds integer NOT NULL,
    run_deadline timestamptz,
    decided_by text CHECK (decided_by <> requested_by),
    outcome text,
    step_results jsonb NOT NULL,
    summary text NOT NULL,
    PRIMARY KEY (tenant_id, runbook_id, execution_id),
    FOREIGN KEY (tenant_id, runbook_id) REFERENCES runbook (tenant_id, runbook_id) ON DELETE CASCADE,
    CHECK (status <> 'pending_approval' OR approval_deadline IS NOT NULL),
    CHECK (status <> 'running' OR run_deadline IS NOT NULL),
    CHECK (outcome IS NOT DISTINCT FROM CASE WHEN status NOT IN ('pending_approval', 'running') THEN status END)
);
COMMENT ON TABLE runbook_execution IS 'Every execution of every runbook; never pruned, so a batch reads the unfinished ones and those that it names.';
COMMENT ON COLUMN runbook_execution.execution_id IS 'ce_id of its RunbookExecutionRequested.';
COMMENT ON COLUMN runbook_execution.outcome IS 'The final status; null while the execution is unfinished.';
CREATE INDEX runbook_execution_unfinished ON runbook_execution (tenant_id, runbook_id) WHERE outcome IS NULL;
CREATE INDEX runbook_execution_by_approval_deadline ON runbook_execution (approval_deadline) WHERE status = 'pending_approval';
CREATE INDEX runbook_execution_by_run_deadline ON runbook_execution (run_deadline) WHERE status = 'running';

CREATE TYPE sre_query.runbook AS (
    tenant_id text,
    runbook_id text,
    version bigint,
    created_at timestamptz,
    updated_at timestamptz,
    title text,
    description text,
    trigger_conditions jsonb,
    steps jsonb,
    automation_level text,
    approval_required boolean,
    owner text,
    tags jsonb,
    definition_version bigint,
    executions jsonb,
    page_token text
);
COMMENT ON TYPE sre_query.runbook IS
    'A runbook; executions are the unfinished ones by ascending id, an object each with the columns of runbook_execution; null in a list. '
    'With page_token list_runbooks goes on behind the row.';

CREATE FUNCTION sre_query.get_runbook(tenant text, runbook_id text) RETURNS SETOF sre_query.runbook
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
BEGIN ATOMIC
    SELECT sre_query.require_tenant(tenant);
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
COMMENT ON FUNCTION sre_query.get_runbook IS 'The runbook with its unfinished executions, or no row. Raises SRE01.';

CREATE FUNCTION sre_query.list_runbooks(tenant text, page_size integer DEFAULT 50, after text DEFAULT NULL)
RETURNS SETOF sre_query.runbook
LANGUAGE sql STABLE PARALLEL SAFE ROWS 50
BEGIN ATOMIC
    -- Lateral, so that the arguments are checked before a row is read, and the order of the index is that of the page.
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
COMMENT ON FUNCTION sre_query.list_runbooks IS
    'A tenant''s runbooks by (created_at, runbook_id) without executions, those behind the token `after`, at most page_size. '
    'Raises SRE01, SRE02 or SRE03.';
