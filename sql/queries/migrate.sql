-- lock --
-- Two migrations at once: the second waits here. Released when the session ends.
SELECT pg_advisory_lock(hashtextextended('sre_domain.migrate', 0));

-- act_as_owner --
-- Whoever migrates, what is made belongs to one role.
SET ROLE sre_owner;

-- create_schema_migration --
-- The record of what was applied.
CREATE TABLE IF NOT EXISTS schema_migration (
    number integer PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    checksum text COLLATE "C" NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- applied --
-- What was applied, in order; checksum is the SHA-256 of the file in hexadecimal.
SELECT number, name, checksum FROM schema_migration ORDER BY number;

-- record --
-- A migration is recorded in the transaction that applies it.
INSERT INTO schema_migration (number, name, checksum) VALUES (%(number)s, %(name)s, %(checksum)s);

-- create_partitions --
-- The partitions of the next days.
SELECT create_partitions(now(), %(days_ahead)s);
