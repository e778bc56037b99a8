-- get_slo --
-- One SLO, or no row; at min_version or later, where that is not null.
SELECT * FROM sre_query.get_slo(%(tenant)s::text, %(slo_id)s::text, %(min_version)s::bigint);

-- list_slos --
-- A page of a tenant's SLOs.
SELECT * FROM sre_query.list_slos(%(tenant)s::text, %(page_size)s::integer, %(after)s::text);
