-- get_incident --
-- One incident with its timeline, or no row; at min_version or later, where that is not null.
SELECT * FROM sre_query.get_incident(%(tenant)s::text, %(incident_id)s::text, %(min_version)s::bigint);

-- list_open_incidents --
-- A page of a tenant's incidents that are neither resolved nor closed.
SELECT * FROM sre_query.list_open_incidents(%(tenant)s::text, %(page_size)s::integer, %(after)s::text);
