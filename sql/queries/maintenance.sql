-- give_up --
-- What waits for this long, or runs, has met a table that is in heavy use: the next run tries again.
SET statement_timeout = '15s';

-- may_maintain --
-- Whether this role was given the functions, or owns them.
SELECT bool_and(has_function_privilege(name::regprocedure, 'EXECUTE'))
FROM unnest(ARRAY[
    'make_partition(text, date)',
    'drop_expired_partition(text, text, timestamptz, integer, text)',
    'delete_expired_rows(text, timestamptz, integer, text, integer)'
]) AS name;

-- lock --
-- One maintains, the others skip; released at the latest when the session ends.
SELECT pg_try_advisory_lock(hashtextextended('sre_domain.maintenance', 0));

-- unlock --
-- At the end of a run, since the server notices that a session has ended only a moment later.
SELECT pg_advisory_unlock(hashtextextended('sre_domain.maintenance', 0));

-- missing_partitions --
-- The first days of the partitions that are to be made.
SELECT first FROM missing_partitions(%(parent)s, %(retention_days)s, %(days_ahead)s) AS missing (first) ORDER BY first;

-- make_partition --
-- Null, or why it was not made.
SELECT make_partition(%(parent)s, %(first)s);

-- expired_partitions --
-- The partitions past their retention, the oldest first.
SELECT part FROM expired_partitions(%(parent)s, %(as_of)s, %(retention_days)s) AS expired (part);

-- drop_expired_partition --
-- Null, or why it was kept.
SELECT drop_expired_partition(%(parent)s, %(part)s, %(as_of)s, %(retention_days)s, %(slot)s);

-- delete_expired_rows --
-- How many rows of the default partition went, and why others were kept.
SELECT deleted, kept FROM delete_expired_rows(%(parent)s, %(as_of)s, %(retention_days)s, %(slot)s, %(at_most)s);

-- partitions_ahead --
-- How many partitions of each table begin later than now.
SELECT parent, count(part)
FROM unnest(ARRAY['inbox', 'outbox']) AS parent
LEFT JOIN LATERAL partition_ranges(parent) AS range ON range.first > now() AT TIME ZONE 'utc'
GROUP BY parent;
