-- Who may do what: every statement of the worker within the tenants of its batch, of a query within one, of anybody else nothing.
-- The roles are made by sql/roles.sql; this runs as sre_owner. Row policies bind the owner, too, who has one only where a function needs it.

REVOKE ALL ON SCHEMA public, sre_query FROM PUBLIC;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public, sre_query FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

CREATE FUNCTION close_table(name regclass) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', name);
END $$;
COMMENT ON FUNCTION close_table IS 'From here on nobody but a superuser sees or writes a row of it without a policy: neither does its owner.';

SELECT close_table(oid) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') ORDER BY oid;

CREATE POLICY migrations ON schema_migration TO sre_owner USING (true) WITH CHECK (true);

-- The worker. A tenant is one of the batch's, '' stands for records without one; where nothing is set, or what an ended transaction left, none is.
-- A subselect, since it is asked once a statement and not once a row.
GRANT USAGE ON SCHEMA public TO sre_writer;
GRANT SELECT, INSERT, UPDATE ON alert, fleetstate, healthcheck, incident, runbook, runbook_execution, slo TO sre_writer;
GRANT INSERT ON incident_timeline TO sre_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON sli_ledger TO sre_writer;
GRANT SELECT, INSERT ON inbox TO sre_writer;
GRANT INSERT ON outbox TO sre_writer;
GRANT SELECT, INSERT, UPDATE ON intake_position TO sre_writer;

DO $$
DECLARE
    name text;
    is_of_batch text := 'tenant_id = ANY ((SELECT nullif(current_setting(''sre.tenants'', true), '''')::text[])::text[])';
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'alert', 'fleetstate', 'healthcheck', 'inbox', 'incident', 'incident_timeline', 'outbox', 'runbook', 'runbook_execution', 'sli_ledger',
        'slo'
    ] LOOP
        EXECUTE format('CREATE POLICY tenants_of_batch ON %I TO sre_writer USING (%s) WITH CHECK (%2$s)', name, is_of_batch);
    END LOOP;
END $$;
CREATE POLICY positions ON intake_position TO sre_writer USING (true) WITH CHECK (true);

-- The relay, its rebuild and the audit: BYPASSRLS, and nothing to write.
GRANT USAGE ON SCHEMA public TO sre_relay;
GRANT SELECT ON
    alert, fleetstate, healthcheck, inbox, incident, incident_timeline, outbox, runbook, runbook_execution, sli_ledger, slo
TO sre_relay;

-- Queries: sre_reader calls, sre_query reads. A reader can set sre.tenant itself: it may call none but what holds that against its grants.
GRANT USAGE ON SCHEMA sre_query TO sre_reader;
GRANT USAGE ON SCHEMA public TO sre_query;
GRANT USAGE, CREATE ON SCHEMA sre_query TO sre_query;
GRANT SELECT ON alert, fleetstate, incident, incident_timeline, runbook, runbook_execution, slo TO sre_query;
DO $$
DECLARE
    name text;
    routine regprocedure;
BEGIN
    FOREACH name IN ARRAY ARRAY['alert', 'fleetstate', 'incident', 'incident_timeline', 'runbook', 'runbook_execution', 'slo'] LOOP
        EXECUTE format(
            'CREATE POLICY tenant_of_reader ON %I FOR SELECT TO sre_query USING (tenant_id = (SELECT current_setting(''sre.tenant'', true)))', name
        );
    END LOOP;
    FOR routine IN SELECT oid FROM pg_proc WHERE pronamespace = 'sre_query'::regnamespace LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO sre_query', routine);
    END LOOP;
END $$;

-- Maintenance: its functions move and delete rows of the default partitions, whose tenant they don't know.
CREATE POLICY maintenance_reads ON inbox_default FOR SELECT TO sre_owner USING (true);
CREATE POLICY maintenance_deletes ON inbox_default FOR DELETE TO sre_owner USING (true);
CREATE POLICY maintenance_reads ON outbox_default FOR SELECT TO sre_owner USING (true);
CREATE POLICY maintenance_deletes ON outbox_default FOR DELETE TO sre_owner USING (true);
GRANT EXECUTE ON FUNCTION
    partition_ranges, retention_horizon, missing_partitions, make_partition, expired_partitions, drop_expired_partition, delete_expired_rows
TO sre_writer;

CREATE OR REPLACE FUNCTION create_partition(parent text, bound_column text, first timestamp, past timestamp, bound_suffix text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    part text := format('%s_%s', parent, to_char(first, 'YYYYMMDD'));
    lower_bound text := format('(%L%s)', first, bound_suffix);
    upper_bound text := format('(%L%s)', past, bound_suffix);
BEGIN
    IF to_regclass(part) IS NOT NULL THEN
        RETURN;
    END IF;
    -- Rows that came before their partition did lie in the default one, which must not hold them when it is attached.
    EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', parent || '_default');
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', part, parent);
    EXECUTE format(
        'WITH moved AS (DELETE FROM %1$I WHERE %2$I >= %3$s AND %2$I < %4$s RETURNING *) INSERT INTO %5$I SELECT * FROM moved',
        parent || '_default', bound_column, lower_bound, upper_bound, part
    );
    PERFORM close_table(part::regclass);
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', parent, part, lower_bound, upper_bound);
END $$;

-- A sweep asks which runbooks are overdue, of all tenants, and gets their ids and nothing else.
CREATE FUNCTION overdue_runbooks(at timestamptz, OUT tenant_id text, OUT runbook_id text) RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT tenant_id, runbook_id FROM runbook_execution WHERE status = 'pending_approval' AND approval_deadline < at
    UNION
    SELECT tenant_id, runbook_id FROM runbook_execution WHERE status = 'running' AND run_deadline < at
    ORDER BY tenant_id, runbook_id
$$;
COMMENT ON FUNCTION overdue_runbooks IS 'The runbooks with an execution whose deadline lies before this instant.';
CREATE POLICY sweep ON runbook_execution FOR SELECT TO sre_owner USING (true);
GRANT EXECUTE ON FUNCTION overdue_runbooks TO sre_writer;
