-- get_current_fleet_state --
-- A page of an environment's clusters, or its one cluster of that id, at min_version or later, where that is not null.
SELECT * FROM sre_query.get_current_fleet_state(
    %(tenant)s::text, %(environment_id)s::text, %(cluster_id)s::text, %(page_size)s::integer, %(after)s::text, %(min_version)s::bigint
);
