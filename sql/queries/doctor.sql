-- only_read --
-- A doctor changes nothing and waits for nobody.
SELECT set_config('default_transaction_read_only', 'on', false), set_config('statement_timeout', '10s', false), set_config('TimeZone', 'UTC', false);

-- server --
-- max_slot_wal_keep_size in MiB, -1 for no limit.
SELECT
    current_setting('server_version') AS version,
    current_setting('server_version_num')::integer AS version_number,
    pg_is_in_recovery() AS is_standby,
    current_setting('wal_level') AS wal_level,
    (SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size') AS wal_keep_mib;

-- clock --
-- Now, not when the transaction began.
SELECT clock_timestamp() AS now;

-- roles --
-- Whether the group roles are there; what a membership does not bring, the relay's has itself.
SELECT
    name,
    pg_roles.oid IS NOT NULL AS "exists",
    coalesce(rolreplication AND rolbypassrls, false) AS has_relay_attributes
FROM unnest(ARRAY['sre_owner', 'sre_writer', 'sre_relay', 'sre_reader', 'sre_query']) WITH ORDINALITY AS wanted (name, place)
LEFT JOIN pg_roles ON rolname = name
ORDER BY place;

-- login --
-- Who is asking, and the rights of which group roles it has.
SELECT
    session_user::text AS name,
    rolsuper AS is_superuser,
    rolreplication AS replication,
    rolbypassrls AS bypassrls,
    ARRAY(
        SELECT rolname::text FROM pg_roles WHERE rolname ~ '^sre_' AND pg_has_role(session_user, oid, 'USAGE') ORDER BY rolname
    ) AS member_of
FROM pg_roles
WHERE rolname = session_user;

-- tables --
-- Every table of ours, partitions too; a partition is reached through its parent, whose policy counts.
SELECT
    pg_class.oid::regclass::text AS name,
    relowner::regrole::text AS owner,
    relrowsecurity AND relforcerowsecurity AS is_closed,
    NOT relispartition AND relname <> 'signing_key' AND EXISTS (
        SELECT FROM pg_attribute WHERE attrelid = pg_class.oid AND attname = 'tenant_id' AND NOT attisdropped
    ) AS needs_policy,
    EXISTS (
        SELECT FROM pg_policy
        WHERE polrelid = pg_class.oid AND polname = 'tenants_of_batch'
            AND pg_get_expr(polqual, polrelid) ~ '^\(tenant_id = ANY .*sre\.tenants'
            AND pg_get_expr(polwithcheck, polrelid) = pg_get_expr(polqual, polrelid)
    ) AS has_policy
FROM pg_class
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind IN ('r', 'p') AND nspname IN ('public', 'sre_query')
ORDER BY 1;

-- policies --
-- What lets somebody see or write rows.
SELECT polname::text AS name, polrelid::regclass::text AS "table" FROM pg_policy ORDER BY polrelid::regclass::text, polname;

-- publication --
-- What it publishes; of all tables, those that there are.
SELECT
    ARRAY(
        SELECT operation
        FROM (VALUES ('insert', pubinsert), ('update', pubupdate), ('delete', pubdelete), ('truncate', pubtruncate)) AS all_of (operation, is_on)
        WHERE is_on
    ) AS operations,
    pubviaroot AS via_root,
    ARRAY(
        SELECT schemaname || '.' || tablename FROM pg_publication_tables WHERE pg_publication_tables.pubname = pg_publication.pubname ORDER BY 1
    ) AS tables,
    EXISTS (
        SELECT FROM pg_publication_rel WHERE prpubid = pg_publication.oid AND (prqual IS NOT NULL OR prattrs IS NOT NULL)
    ) AS is_cut
FROM pg_publication
WHERE pubname = %(publication)s;

-- slots --
-- All of them: their names are of the whole cluster. In bytes; failover as text, null before PostgreSQL 17.
SELECT
    slot_name::text AS name,
    plugin::text AS plugin,
    database::text AS database,
    coalesce(database = current_database(), false) AS is_of_this_database,
    active,
    wal_status,
    (pg_current_wal_lsn() - restart_lsn)::bigint AS retained,
    (pg_current_wal_lsn() - confirmed_flush_lsn)::bigint AS behind,
    to_jsonb(slots) ->> 'failover' AS failover
FROM pg_replication_slots AS slots
WHERE NOT temporary
ORDER BY slot_name;

-- signing_keys --
-- How many keys are in force now, and the ids of those that end within two weeks.
SELECT
    count(*) FILTER (WHERE is_in_force) AS in_force,
    coalesce(array_agg(key_id ORDER BY key_id) FILTER (WHERE is_in_force AND valid_until < now() + interval '14 days'), '{}') AS ending
FROM (SELECT *, revoked_at IS NULL AND now() >= valid_from AND now() < valid_until AS is_in_force FROM signing_key) AS keys;

-- signing_key --
-- What is known of one key.
SELECT revoked_at IS NOT NULL AS is_revoked, now() >= valid_from AND now() < valid_until AS is_in_force
FROM signing_key
WHERE key_id = %(key_id)s;
