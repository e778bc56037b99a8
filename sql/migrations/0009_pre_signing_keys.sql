-- Who may speak for a tenant: public keys. No row is ever deleted, so that a key that was revoked stays revoked.

CREATE TABLE signing_key (
    tenant_id text COLLATE "C" NOT NULL CHECK (tenant_id ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'),
    key_id text COLLATE "C" NOT NULL GENERATED ALWAYS AS (encode(substring(sha256(public_key) FOR 8), 'hex')) STORED UNIQUE,
    public_key bytea NOT NULL CHECK (octet_length(public_key) = 32),
    principal text COLLATE "C" NOT NULL CHECK (principal ~ '^[!-~]{1,200}$'),
    intents text[] COLLATE "C" NOT NULL CHECK (
        cardinality(intents) BETWEEN 1 AND 200
        AND array_ndims(intents) = 1
        AND array_position(intents, NULL) IS NULL
        AND array_to_string(intents, ' ') ~ '^[A-Za-z]{1,91}Requested( [A-Za-z]{1,91}Requested)*$'
    ),
    actor text COLLATE "C" CHECK (char_length(actor) <= 200 AND actor ~ '[^[:space:]]' AND actor !~ '[\u0001-\u001F\u007F-\u009F]'),
    valid_from timestamptz NOT NULL CHECK (isfinite(valid_from)),
    valid_until timestamptz NOT NULL CHECK (isfinite(valid_until)),
    revoked_at timestamptz CHECK (isfinite(revoked_at)),
    created_at timestamptz NOT NULL DEFAULT now() CHECK (isfinite(created_at)),
    PRIMARY KEY (tenant_id, key_id),
    CHECK (valid_from < valid_until)
);
COMMENT ON TABLE signing_key IS 'Ed25519 public keys, each of one tenant and one principal; the private ones are with their holders.';
COMMENT ON COLUMN signing_key.key_id IS 'The first 8 bytes of the key''s SHA-256 in hex: it follows from the key, so it is never given to another one.';
COMMENT ON COLUMN signing_key.intents IS 'What its holder may ask for: names as on the wire, without their namespace.';
COMMENT ON COLUMN signing_key.actor IS 'The only actor that its holder may be in an intent that has one; null for any.';
COMMENT ON COLUMN signing_key.valid_until IS 'In force from valid_from on and before this, by the ce_time that its holder writes.';
COMMENT ON COLUMN signing_key.revoked_at IS 'From then on nothing is taken that it signed, whatever its ce_time.';

SELECT close_table('signing_key');
CREATE POLICY keys ON signing_key TO sre_owner USING (true) WITH CHECK (true);
-- The worker learns whose key it is by reading it: no tenant is known before.
CREATE POLICY keys_of_all ON signing_key FOR SELECT TO sre_writer USING (true);
GRANT SELECT ON signing_key TO sre_writer;
