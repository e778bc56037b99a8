-- lock_rows --
-- The rows of these runbooks, locked in the one order that all workers take.
SELECT
    tenant_id, runbook_id, version, created_at, updated_at, title, description, trigger_conditions, steps, automation_level,
    approval_required, owner, tags, definition_version
FROM runbook
JOIN unnest(%(tenant_ids)b::text[], %(ids)b::text[]) AS batch (tenant_id, runbook_id) USING (tenant_id, runbook_id)
ORDER BY tenant_id, runbook_id
FOR UPDATE OF runbook;

-- executions --
-- The unfinished executions of the batch's runbooks, and the finished ones that it names.
SELECT
    tenant_id, runbook_id, execution_id, definition_version, status, requested_by, parameters, incident_id, reason, approval_deadline,
    run_within_seconds, run_deadline, decided_by, outcome, step_results, summary
FROM runbook_execution
JOIN unnest(%(tenant_ids)b::text[], %(runbook_ids)b::text[]) AS batch (tenant_id, runbook_id) USING (tenant_id, runbook_id)
WHERE outcome IS NULL
UNION ALL
SELECT
    tenant_id, runbook_id, execution_id, definition_version, status, requested_by, parameters, incident_id, reason, approval_deadline,
    run_within_seconds, run_deadline, decided_by, outcome, step_results, summary
FROM runbook_execution
JOIN unnest(%(named_tenant_ids)b::text[], %(named_runbook_ids)b::text[], %(execution_ids)b::uuid[])
    AS named (tenant_id, runbook_id, execution_id) USING (tenant_id, runbook_id, execution_id)
WHERE outcome IS NOT NULL;

-- insert_rows --
-- Rows that were absent when the batch looked; a unique violation says that another worker was first.
INSERT INTO runbook (
    tenant_id, runbook_id, version, created_at, updated_at, title, description, trigger_conditions, steps, automation_level,
    approval_required, owner, tags, definition_version
)
SELECT * FROM unnest(
    %(tenant_id)b::text[], %(runbook_id)b::text[], %(version)b::int8[], %(created_at)b::timestamptz[], %(updated_at)b::timestamptz[],
    %(title)b::text[], %(description)b::text[], %(trigger_conditions)b::jsonb[], %(steps)b::jsonb[], %(automation_level)b::text[],
    %(approval_required)b::bool[], %(owner)b::text[], %(tags)b::jsonb[], %(definition_version)b::int8[]
);

-- update_rows --
-- Rows that the batch locked, as it leaves them.
UPDATE runbook SET
    version = row.version,
    updated_at = row.updated_at,
    title = row.title,
    description = row.description,
    trigger_conditions = row.trigger_conditions,
    steps = row.steps,
    automation_level = row.automation_level,
    approval_required = row.approval_required,
    owner = row.owner,
    tags = row.tags,
    definition_version = row.definition_version
FROM unnest(
    %(tenant_id)b::text[], %(runbook_id)b::text[], %(version)b::int8[], %(updated_at)b::timestamptz[], %(title)b::text[],
    %(description)b::text[], %(trigger_conditions)b::jsonb[], %(steps)b::jsonb[], %(automation_level)b::text[],
    %(approval_required)b::bool[], %(owner)b::text[], %(tags)b::jsonb[], %(definition_version)b::int8[]
) AS row (
    tenant_id, runbook_id, version, updated_at, title, description, trigger_conditions, steps, automation_level, approval_required,
    owner, tags, definition_version
)
WHERE runbook.tenant_id = row.tenant_id AND runbook.runbook_id = row.runbook_id;

-- update_versions --
-- Rows that the batch locked and whose definition stands.
UPDATE runbook SET
    version = row.version,
    updated_at = row.updated_at
FROM unnest(%(tenant_id)b::text[], %(runbook_id)b::text[], %(version)b::int8[], %(updated_at)b::timestamptz[])
    AS row (tenant_id, runbook_id, version, updated_at)
WHERE runbook.tenant_id = row.tenant_id AND runbook.runbook_id = row.runbook_id;

-- insert_executions --
-- Executions that were requested in the batch, as it leaves them.
INSERT INTO runbook_execution (
    tenant_id, runbook_id, execution_id, definition_version, status, requested_by, parameters, incident_id, reason, approval_deadline,
    run_within_seconds, run_deadline, decided_by, outcome, step_results, summary
)
SELECT * FROM unnest(
    %(tenant_id)b::text[], %(runbook_id)b::text[], %(execution_id)b::uuid[], %(definition_version)b::int8[], %(status)b::text[],
    %(requested_by)b::text[], %(parameters)b::jsonb[], %(incident_id)b::uuid[], %(reason)b::text[],
    %(approval_deadline)b::timestamptz[], %(run_within_seconds)b::int4[], %(run_deadline)b::timestamptz[], %(decided_by)b::text[],
    %(outcome)b::text[], %(step_results)b::jsonb[], %(summary)b::text[]
);

-- update_executions --
-- Executions that the batch brought further.
UPDATE runbook_execution SET
    status = row.status,
    run_deadline = row.run_deadline,
    decided_by = row.decided_by,
    outcome = row.outcome,
    step_results = row.step_results,
    summary = row.summary
FROM unnest(
    %(tenant_id)b::text[], %(runbook_id)b::text[], %(execution_id)b::uuid[], %(status)b::text[], %(run_deadline)b::timestamptz[],
    %(decided_by)b::text[], %(outcome)b::text[], %(step_results)b::jsonb[], %(summary)b::text[]
) AS row (tenant_id, runbook_id, execution_id, status, run_deadline, decided_by, outcome, step_results, summary)
WHERE runbook_execution.tenant_id = row.tenant_id AND runbook_execution.runbook_id = row.runbook_id
    AND runbook_execution.execution_id = row.execution_id;

-- all_rows --
-- Every runbook, for an audit.
SELECT
    tenant_id, runbook_id, version, created_at, updated_at, title, description, trigger_conditions, steps, automation_level,
    approval_required, owner, tags, definition_version
FROM runbook;

-- all_executions --
-- Every execution of every runbook, for an audit.
SELECT
    tenant_id, runbook_id, execution_id, definition_version, status, requested_by, parameters, incident_id, reason, approval_deadline,
    run_within_seconds, run_deadline, decided_by, outcome, step_results, summary
FROM runbook_execution;

-- overdue --
-- The runbooks, of all tenants, with an execution whose deadline lies before this instant.
SELECT tenant_id, runbook_id FROM overdue_runbooks(%(at)s::timestamptz);
