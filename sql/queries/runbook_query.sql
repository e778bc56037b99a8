-- get_runbook --
-- One runbook with its unfinished executions, or no row; at min_version or later, where that is not null.
SELECT * FROM sre_query.get_runbook(%(tenant)s::text, %(runbook_id)s::text, %(min_version)s::bigint);

-- list_runbooks --
-- A page of a tenant's runbooks, without executions.
SELECT * FROM sre_query.list_runbooks(%(tenant)s::text, %(page_size)s::integer, %(after)s::text);
