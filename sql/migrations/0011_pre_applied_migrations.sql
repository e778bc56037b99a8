-- Whether a process fits the schema is for the process to find out, whatever its login: it sees what was applied, and changes none of it.

CREATE FUNCTION applied_migrations(OUT number integer, OUT name text, OUT checksum text) RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT number, name, checksum FROM schema_migration ORDER BY number
$$;
COMMENT ON FUNCTION applied_migrations IS 'The migrations of this database, in order. Older versions of sre-domain ask for it too: it is never changed.';
GRANT EXECUTE ON FUNCTION applied_migrations TO sre_writer, sre_relay;
