-- get_alert --
-- One alert, or no row; at min_version or later, where that is not null.
SELECT * FROM sre_query.get_alert(%(tenant)s::text, %(alert_id)s::text, %(min_version)s::bigint);

-- list_active_alerts --
-- A page of a tenant's firing alerts, or of those of one incident.
SELECT * FROM sre_query.list_active_alerts(%(tenant)s::text, %(incident_id)s::text, %(page_size)s::integer, %(after)s::text);
