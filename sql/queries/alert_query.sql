-- get_alert --
-- One alert, or no row.
SELECT * FROM sre_query.get_alert(%(tenant)s::text, %(alert_id)s::text);

-- list_active_alerts --
-- A page of a tenant's firing alerts, or of those of one incident.
SELECT * FROM sre_query.list_active_alerts(%(tenant)s::text, %(incident_id)s::text, %(page_size)s::integer, %(after)s::text);
