-- keys --
-- All of them: a worker checks by these, whatever tenant a record names.
SELECT key_id, public_key, tenant_id, principal, valid_from, valid_until, revoked_at IS NOT NULL AS is_revoked, intents, actor
FROM signing_key;

-- keys_of --
-- Those with these ids.
SELECT key_id, public_key, tenant_id, principal, valid_from, valid_until, revoked_at IS NOT NULL AS is_revoked, intents, actor
FROM signing_key
WHERE key_id = ANY (%(key_ids)s);

-- add_key --
INSERT INTO signing_key (tenant_id, public_key, principal, intents, actor, valid_from, valid_until)
VALUES (
    %(tenant_id)s, %(public_key)s, %(principal)s, %(intents)s, %(actor)s,
    coalesce(%(valid_from)s, now() - interval '30 days'),
    coalesce(%(valid_until)s, now() + make_interval(days => %(days)s))
)
RETURNING key_id, valid_from, valid_until;

-- list_keys --
-- Of one tenant, or of all where that is null; the oldest first. States are by the database's clock.
SELECT
    key_id, tenant_id, principal, intents, actor, valid_from, valid_until, revoked_at,
    CASE
        WHEN revoked_at IS NOT NULL THEN 'revoked'
        WHEN now() < valid_from THEN 'not yet'
        WHEN now() >= valid_until THEN 'expired'
        ELSE 'in force'
    END AS state
FROM signing_key
WHERE %(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s
ORDER BY created_at, key_id;

-- revoke_key --
-- The moment of the first revocation stays.
UPDATE signing_key SET revoked_at = coalesce(revoked_at, now()) WHERE key_id = %(key_id)s RETURNING tenant_id, principal, revoked_at;
