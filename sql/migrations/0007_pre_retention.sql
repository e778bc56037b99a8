-- Partitions of inbox and outbox made ahead and dropped after their retention. Those who maintain need EXECUTE on the functions of
-- SECURITY DEFINER below, and own nothing; the functions believe nobody's clock alone and drop nothing that a slot has still to publish.

CREATE FUNCTION partition_ranges(parent text, OUT part text, OUT first timestamp, OUT past timestamp) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = public, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO' AS $$
    SELECT
        c.relname::text,
        coalesce(substring(bound FROM 'FROM \(''([^'']+)''\)'), '-infinity')::timestamp,
        coalesce(substring(bound FROM 'TO \(''([^'']+)''\)'), 'infinity')::timestamp
    FROM pg_inherits
    JOIN pg_class AS c ON c.oid = inhrelid
    CROSS JOIN LATERAL pg_get_expr(c.relpartbound, c.oid) AS bound
    WHERE inhparent = to_regclass(parent) AND bound <> 'DEFAULT' AND c.relnamespace = 'public'::regnamespace
$$;
COMMENT ON FUNCTION partition_ranges IS 'The partitions of a table but its default one, whoever attached them, with their bounds in UTC.';

CREATE FUNCTION retention_horizon(parent text, as_of timestamptz, retention_days integer) RETURNS timestamp
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF parent NOT IN ('inbox', 'outbox') OR (retention_days >= 1) IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'only inbox and outbox have a retention, of 1 day or more';
    END IF;
    -- A record may come again while its topic keeps it, 7 days, and must find its outcome; one more day is for clocks that are behind.
    RETURN (least(as_of, now()) AT TIME ZONE 'utc') - make_interval(days => retention_days + CASE parent WHEN 'inbox' THEN 8 ELSE 0 END);
END $$;
COMMENT ON FUNCTION retention_horizon IS 'What lies before this is not needed any more, by the earlier of the caller''s clock and the database''s.';

CREATE FUNCTION missing_partitions(parent text, retention_days integer, days_ahead integer, OUT first date) RETURNS SETOF date
LANGUAGE sql STABLE SET search_path = public, pg_temp SET timezone = 'UTC' AS $$
    SELECT day::date
    FROM (SELECT now() AT TIME ZONE 'utc' AS today) AS clock
    CROSS JOIN LATERAL generate_series(
        CASE parent WHEN 'inbox' THEN date_trunc('week', today - make_interval(days => retention_days)) ELSE date_trunc('day', today) END,
        today + make_interval(days => days_ahead),
        CASE parent WHEN 'inbox' THEN interval '7 days' ELSE interval '1 day' END
    ) AS day
    WHERE NOT EXISTS (
        SELECT FROM partition_ranges(parent) AS range
        WHERE range.first < day + CASE parent WHEN 'inbox' THEN interval '7 days' ELSE interval '1 day' END AND range.past > day
    )
$$;
COMMENT ON FUNCTION missing_partitions IS 'First days of the partitions, of a week of inbox or a day of outbox, that are to be made; without those that would overlap one.';

CREATE FUNCTION make_partition(parent text, first date) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC' SET lock_timeout = '500ms' AS $$
DECLARE
    days integer := CASE parent WHEN 'inbox' THEN 7 WHEN 'outbox' THEN 1 END;
    bound_column text := CASE parent WHEN 'inbox' THEN 'ce_time' ELSE 'timestamp' END;
    part text := format('%s_%s', parent, to_char(first, 'YYYYMMDD'));
    is_crowded boolean;
BEGIN
    IF days IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'only inbox and outbox have partitions';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('sre_domain.create_partitions'));
    IF EXISTS (
        SELECT FROM partition_ranges(parent) AS range WHERE range.first < make_partition.first + days AND range.past > make_partition.first
    ) THEN
        RETURN NULL;
    END IF;
    IF to_regclass(part) IS NOT NULL THEN
        RETURN format('a table %s is there that is no partition of %s', part, parent);
    END IF;
    -- Nobody writes while rows move: so many take less than a second, and more can stay where they are.
    EXECUTE format(
        'SELECT EXISTS (SELECT FROM %I WHERE %I >= $1::timestamp AND %2$I < $1::timestamp + make_interval(days => $2) OFFSET 50000)',
        parent || '_default', bound_column
    ) INTO is_crowded USING first, days;
    IF is_crowded THEN
        RETURN format('%s_default holds too many rows of %s to move them while workers wait', parent, part);
    END IF;
    PERFORM create_partition(
        parent, bound_column, first, first + days, CASE parent WHEN 'inbox' THEN '::timestamp AT TIME ZONE ''utc''' ELSE '::timestamp' END
    );
    RETURN NULL;
END $$;
COMMENT ON FUNCTION make_partition IS 'Makes the partition that begins on this day, unless one is there; null, or why it was not made. Gives way after half a second.';

CREATE FUNCTION wait_until_confirmed(slot text, lsn pg_lsn, wait_for interval) RETURNS text
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    deadline timestamptz := clock_timestamp() + wait_for;
    behind record;
BEGIN
    LOOP
        IF NOT EXISTS (
            SELECT FROM pg_replication_slots WHERE slot_name = slot AND slot_type = 'logical' AND database = current_database()
        ) THEN
            RETURN format('this database has no slot %s', slot);
        END IF;
        -- Every slot of this database: which of them reads the outbox can't be seen, and a rebuild has a temporary one.
        SELECT slot_name, confirmed_flush_lsn, wal_status = 'lost' AS is_lost INTO behind
        FROM pg_replication_slots
        WHERE slot_type = 'logical' AND database = current_database() AND (wal_status = 'lost' OR (confirmed_flush_lsn >= lsn) IS NOT TRUE)
        ORDER BY is_lost DESC, confirmed_flush_lsn
        LIMIT 1;
        IF NOT FOUND THEN
            RETURN NULL;
        ELSIF behind.is_lost THEN
            RETURN format('slot %s is lost', behind.slot_name);
        ELSIF clock_timestamp() >= deadline THEN
            RETURN format('slot %s has not confirmed all of it as published', behind.slot_name);
        END IF;
        PERFORM pg_sleep(0.02);
    END LOOP;
END $$;
COMMENT ON FUNCTION wait_until_confirmed IS 'Null once everything that was committed before this position is confirmed as published, or why that is not known.';

CREATE FUNCTION committed_by_now() RETURNS pg_lsn
LANGUAGE plpgsql AS $$
BEGIN
    -- What is not flushed is not streamed either. Before 17 only a commit flushes, and an idle server may keep a partition for another run.
    IF current_setting('server_version_num')::integer >= 170000 THEN
        EXECUTE 'SELECT pg_logical_emit_message(false, ''sre_domain.retention'', '''', true)';
    END IF;
    RETURN pg_current_wal_insert_lsn();
END $$;
COMMENT ON FUNCTION committed_by_now IS 'A position behind the commit of every row that is visible. Not what is written or flushed: a commit need not wait for that.';

CREATE FUNCTION expired_partitions(parent text, as_of timestamptz, retention_days integer, OUT part text) RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT range.part
    FROM partition_ranges(parent) AS range
    WHERE range.past <= retention_horizon(parent, as_of, retention_days)
    ORDER BY range.past
$$;
COMMENT ON FUNCTION expired_partitions IS 'The partitions that lie wholly before the horizon, the oldest first.';

CREATE FUNCTION drop_expired_partition(parent text, expired text, as_of timestamptz, retention_days integer, slot text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '500ms' AS $$
DECLARE
    kept text;
BEGIN
    IF NOT EXISTS (SELECT FROM expired_partitions(parent, as_of, retention_days) AS found WHERE found.part = expired) THEN
        RETURN NULL;
    END IF;
    IF parent = 'outbox' THEN
        -- With this lock nobody has, or gets, an uncommitted row in it, and readers and writers of the other days go on.
        EXECUTE format('LOCK TABLE %I IN SHARE MODE', expired);
        kept := wait_until_confirmed(slot, committed_by_now(), '3 seconds');
        IF kept IS NOT NULL THEN
            RETURN kept;
        END IF;
    END IF;
    EXECUTE format('DROP TABLE %I', expired);
    RETURN NULL;
END $$;
COMMENT ON FUNCTION drop_expired_partition IS 'Drops a partition past its retention, one of outbox only when all of it is confirmed as published; null, or why it was kept.';

CREATE FUNCTION delete_expired_rows(
    parent text, as_of timestamptz, retention_days integer, slot text, at_most integer, OUT deleted bigint, OUT kept text
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC' SET lock_timeout = '500ms' AS $$
DECLARE
    horizon timestamp := retention_horizon(parent, as_of, retention_days);
    expired tid[];
BEGIN
    deleted := 0;
    PERFORM pg_advisory_xact_lock(hashtext('sre_domain.create_partitions'));  -- nobody moves the rows meanwhile
    IF parent = 'inbox' THEN
        -- Where a topic keeps producers' timestamps a record's place may have any: such an outcome counts from when it was decided, too.
        DELETE FROM inbox_default WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM inbox_default
            WHERE ce_time < horizon::timestamptz AND decided_at < least(as_of, now()) - interval '8 days'
            LIMIT at_most
        ));
        GET DIAGNOSTICS deleted = ROW_COUNT;
        RETURN;
    END IF;
    expired := ARRAY(SELECT ctid FROM outbox_default WHERE "timestamp" < horizon LIMIT at_most);
    IF cardinality(expired) > 0 THEN
        kept := wait_until_confirmed(slot, committed_by_now(), '3 seconds');
        IF kept IS NULL THEN
            DELETE FROM outbox_default WHERE ctid = ANY (expired);
            GET DIAGNOSTICS deleted = ROW_COUNT;
        END IF;
    END IF;
END $$;
COMMENT ON FUNCTION delete_expired_rows IS 'Deletes so many of the rows past their retention that the default partition caught, of outbox only what is confirmed as published.';

REVOKE EXECUTE ON FUNCTION make_partition, drop_expired_partition, delete_expired_rows FROM PUBLIC;
