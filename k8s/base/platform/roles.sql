-- The roles of sre-domain, and what its owner needs of this database: to be run in it by a superuser. Run again, it changes nothing.
--
-- None of them logs in; login roles are members of one each. Attributes don't come with a membership, so a login role of the relay has
-- REPLICATION and BYPASSRLS of its own.
--     sre_owner   owns everything but the functions of sre_query; for sre-domain migrate
--     sre_writer  for the worker: rows of the tenants of its batch
--     sre_relay   for the relay, its rebuild and the audit: reads every row, writes none
--     sre_reader  for queries: calls the functions of sre_query, and has no right on any table
--     sre_query   owns those functions: reads the rows of one tenant a transaction; has no members but the owner

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['sre_owner', 'sre_writer', 'sre_relay', 'sre_reader', 'sre_query'] LOOP
        BEGIN
            IF to_regrole(name) IS NULL THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', name);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- roles are of the whole cluster: another database's migration was first
        END;
    END LOOP;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'sre_relay' AND NOT (rolreplication AND rolbypassrls)) THEN
        ALTER ROLE sre_relay REPLICATION BYPASSRLS;
    END IF;
    IF NOT pg_has_role('sre_owner', 'sre_query', 'MEMBER') THEN
        GRANT sre_query TO sre_owner;
    END IF;
END $$;

DO $$
DECLARE
    here text := current_database();
    is_ours boolean := (SELECT pg_has_role(datdba, 'USAGE') FROM pg_database WHERE datname = here);
    command text;
BEGIN
    IF NOT has_database_privilege('sre_owner', here, 'CREATE') THEN
        IF NOT is_ours THEN
            RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = format('sre_owner may not create anything in database %s', here);
        END IF;
        EXECUTE format('GRANT CREATE ON DATABASE %I TO sre_owner', here);
    END IF;
    -- A temporary table is the first that a name means where a search_path doesn't say otherwise: only a rebuild needs one.
    IF is_ours AND has_database_privilege('public', here, 'TEMPORARY') THEN
        EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', here);
    END IF;
    IF is_ours AND NOT has_database_privilege('sre_relay', here, 'TEMPORARY') THEN
        EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO sre_relay', here);
    END IF;
    IF NOT (SELECT pg_has_role('sre_owner', nspowner, 'USAGE') FROM pg_namespace WHERE nspname = 'public') THEN
        ALTER SCHEMA public OWNER TO sre_owner;
    END IF;
    -- Else whoever logs in could hold the locks of batches and migrations, run code and leave large objects behind.
    IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AND has_language_privilege('public', 'plpgsql', 'USAGE') THEN
        FOR command IN
            WITH closed AS (
                SELECT oid::regprocedure AS routine, proname ~ 'advisory' AS is_lock
                FROM pg_proc
                WHERE pronamespace = 'pg_catalog'::regnamespace
                    AND (proname ~ '^pg_(try_)?advisory_' OR proname IN ('lo_creat', 'lo_create', 'lo_from_bytea'))
            )
            SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', routine) FROM closed
            UNION ALL
            SELECT format('GRANT EXECUTE ON FUNCTION %s TO sre_owner, sre_writer', routine) FROM closed WHERE is_lock
        LOOP
            EXECUTE command;
        END LOOP;
        GRANT USAGE ON LANGUAGE plpgsql TO sre_owner;
        REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC;
    END IF;
    -- What was migrated before there were roles belongs to whoever migrated.
    FOR command IN
        WITH
        before AS (
            SELECT relowner AS owner FROM pg_class WHERE oid = to_regclass('public.schema_migration') AND relowner <> 'sre_owner'::regrole
        ),
        spaces AS (SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'sre_query')),
        commands (place, line) AS (
            SELECT 1, format('ALTER SCHEMA sre_query OWNER TO sre_owner')
            FROM pg_namespace, before WHERE nspname = 'sre_query' AND nspowner = before.owner
            UNION ALL
            SELECT 2, format('ALTER TABLE %s OWNER TO sre_owner', pg_class.oid::regclass)
            FROM pg_class, before WHERE relnamespace IN (SELECT oid FROM spaces) AND relowner = before.owner AND relkind IN ('r', 'p')
            UNION ALL
            SELECT 2, format('ALTER TYPE %s OWNER TO sre_owner', pg_type.oid::regtype)
            FROM pg_type, pg_class, before
            WHERE typnamespace IN (SELECT oid FROM spaces) AND typowner = before.owner AND pg_class.oid = typrelid AND relkind = 'c'
            UNION ALL
            SELECT 2, format('ALTER FUNCTION %s OWNER TO sre_owner', pg_proc.oid::regprocedure)
            FROM pg_proc, before WHERE pronamespace IN (SELECT oid FROM spaces) AND proowner = before.owner
            UNION ALL
            SELECT 3, 'ALTER PUBLICATION sre_outbox OWNER TO sre_owner'
            FROM pg_publication, before WHERE pubname = 'sre_outbox' AND pubowner = before.owner
        )
        SELECT line FROM commands ORDER BY place
    LOOP
        EXECUTE command;
    END LOOP;
END $$;
