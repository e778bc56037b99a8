-- too_much --
-- Why the worker must not run under this login, whose rights no row policy would bind, or who has none; null where it may.
SELECT CASE
    WHEN bool_or(rolsuper) THEN 'is a superuser, or may become one'
    WHEN bool_or(rolbypassrls) THEN 'has BYPASSRLS, or may become a role that has'
    WHEN bool_or(rolname = 'sre_owner' OR oid IN (SELECT relowner FROM pg_class WHERE relname = 'inbox' AND relkind = 'p'))
        THEN 'owns the tables, or may become their owner'
    WHEN bool_or(rolname = 'sre_writer' AND pg_has_role(session_user, oid, 'USAGE')) IS NOT TRUE THEN 'is no member of sre_writer'
END
FROM pg_roles
WHERE pg_has_role(session_user, oid, 'MEMBER');

-- applied_migrations --
-- What this database's schema is made of, for any login that works on it.
SELECT number, name, checksum FROM applied_migrations();
