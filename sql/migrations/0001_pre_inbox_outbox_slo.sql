-- What every aggregate shares (inbox, outbox, intake positions) and the first aggregate, SLO.
-- Text that is compared byte by byte is COLLATE "C": the order is the same on every host.

CREATE TABLE inbox (
    tenant_id text COLLATE "C" NOT NULL,
    intent_key uuid NOT NULL,
    intent_id text COLLATE "C" NOT NULL,
    ce_time timestamptz NOT NULL,
    content_hash bytea NOT NULL,
    topic text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    outcome text COLLATE "C" NOT NULL CHECK (outcome IN ('facts', 'no_change', 'rejected')),
    code text COLLATE "C",
    fact_ids uuid[] NOT NULL DEFAULT '{}',
    decided_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, intent_key, ce_time),
    CHECK ((outcome = 'rejected') = (code IS NOT NULL)),
    CHECK ((outcome = 'facts') = (cardinality(fact_ids) > 0))
) PARTITION BY RANGE (ce_time);
COMMENT ON TABLE inbox IS 'The one outcome of every record accepted on an intent topic; a partition is a week of ce_time.';
COMMENT ON COLUMN inbox.tenant_id IS 'Empty where the record used up no id: then intent_id is topic/partition/offset/timestamp and ce_time the broker timestamp.';
COMMENT ON COLUMN inbox.intent_key IS 'First 16 bytes of the SHA-256 of tenant_id, LF, intent_id: half the cost of looking up two texts.';
COMMENT ON COLUMN inbox.content_hash IS 'SHA-256 of what makes two records the same intent.';
CREATE TABLE inbox_default PARTITION OF inbox DEFAULT;

CREATE TABLE intake_position (
    topic text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE intake_position IS 'One past the highest offset decided. Its row lock orders two workers on one partition; a record below it may have been decided before.';

CREATE TABLE outbox (
    id uuid NOT NULL,
    aggregatetype varchar(255) NOT NULL,
    aggregateid varchar(255) NOT NULL,
    type varchar(255) NOT NULL,
    payload bytea NOT NULL CHECK (octet_length(payload) <= 2000000),
    "timestamp" timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'utc'),
    topic varchar(249) NOT NULL CHECK (topic ~ '^[A-Za-z0-9._-]+$'),
    key bytea,
    partition integer NOT NULL CHECK (partition >= 0),
    tenant_id text NOT NULL,
    aggregate_version bigint,
    ce_time text NOT NULL,
    subject text,
    correlation_id text,
    causation_id text,
    traceparent text,
    tracestate text,
    principal text
) PARTITION BY RANGE ("timestamp");
COMMENT ON TABLE outbox IS 'Facts and rejections on their way to Kafka: insert-only, a partition a day, read from the WAL and never queried on the way.';
COMMENT ON COLUMN outbox.id IS 'ce_id. Unique by the row lock of its aggregate alone: no index to pay for.';
COMMENT ON COLUMN outbox.tenant_id IS 'Empty on the rejection of a record without a well-formed tenant.';
COMMENT ON COLUMN outbox.aggregate_version IS 'Null for a rejection, which belongs to no aggregate.';
COMMENT ON COLUMN outbox.payload IS 'The Kafka value as it goes out. Its limit keeps one row from stopping all behind it.';
CREATE TABLE outbox_default PARTITION OF outbox DEFAULT;

CREATE PUBLICATION sre_outbox FOR TABLE outbox WITH (publish = 'insert', publish_via_partition_root = true);

CREATE FUNCTION create_partition(parent text, bound_column text, first timestamp, past timestamp, bound_suffix text) RETURNS void
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
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', parent, part, lower_bound, upper_bound);
END $$;
COMMENT ON FUNCTION create_partition IS 'Makes one partition, unless it exists, and moves in what lies in the default partition.';

CREATE FUNCTION create_partitions(as_of timestamptz, days_ahead integer) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    first_day date := (as_of AT TIME ZONE 'utc')::date;
    first_week date := date_trunc('week', as_of AT TIME ZONE 'utc')::date;
    d date;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('sre_domain.create_partitions'));
    FOR d IN SELECT first_day + i FROM generate_series(0, days_ahead) AS i LOOP
        PERFORM create_partition('outbox', 'timestamp', d, d + 1, '::timestamp');
    END LOOP;
    FOR d IN SELECT first_week + 7 * i FROM generate_series(-5, days_ahead / 7 + 1) AS i LOOP
        PERFORM create_partition('inbox', 'ce_time', d, d + 7, '::timestamp AT TIME ZONE ''utc''');
    END LOOP;
END $$;
COMMENT ON FUNCTION create_partitions IS 'Makes the partitions of inbox (five weeks back and ahead) and outbox that are missing.';

CREATE TABLE slo (
    tenant_id text COLLATE "C" NOT NULL,
    slo_id text COLLATE "C" NOT NULL,
    version bigint NOT NULL CHECK (version > 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    name text NOT NULL,
    description text NOT NULL,
    owner text NOT NULL,
    scope text NOT NULL,
    target numeric(9, 6) NOT NULL CHECK (target > 0 AND target < 100),
    "window" text NOT NULL CHECK ("window" IN ('7d', '28d', '30d')),
    sli_good text NOT NULL,
    sli_total text NOT NULL,
    budgeting_method text NOT NULL CHECK (budgeting_method IN ('occurrences', 'timeslices', 'ratio_timeslices')),
    slice_seconds integer,
    slice_target numeric(9, 6),
    budget_status text NOT NULL CHECK (budget_status IN ('no_data', 'available', 'exhausted')),
    current_budget_remaining numeric(18, 6) NOT NULL CHECK (current_budget_remaining <= 100),
    budget_consumed numeric(18, 6) NOT NULL CHECK (current_budget_remaining + budget_consumed = 100),
    as_of timestamptz,
    measured_from timestamptz,
    counted_good bigint NOT NULL,
    counted_total bigint NOT NULL,
    counted_slices integer NOT NULL,
    counted_bad_slices integer NOT NULL,
    counted_ratios numeric(24, 0) NOT NULL,
    PRIMARY KEY (tenant_id, slo_id),
    CHECK ((budget_status = 'exhausted') = (counted_total > 0 AND current_budget_remaining <= 0))
) WITH (fillfactor = 50);
COMMENT ON COLUMN slo.counted_good IS 'counted_*: sums over the windows that count (start >= as_of - window).';
COMMENT ON COLUMN slo.counted_ratios IS 'Sum of good/total of the slices with events, each rounded half-even to 18 places, in units of 1e-18.';

CREATE TABLE sli_ledger (
    tenant_id text COLLATE "C" NOT NULL,
    slo_id text COLLATE "C" NOT NULL,
    hour timestamptz NOT NULL CHECK (hour = date_trunc('hour', hour, 'UTC')),
    slots bytea NOT NULL CHECK (octet_length(slots) = 60 * 22),
    good bigint NOT NULL,
    total bigint NOT NULL,
    slices integer NOT NULL,
    bad_slices integer NOT NULL,
    ratios numeric(24, 0) NOT NULL,
    PRIMARY KEY (tenant_id, slo_id, hour),
    FOREIGN KEY (tenant_id, slo_id) REFERENCES slo (tenant_id, slo_id) ON DELETE CASCADE
) WITH (fillfactor = 50);
COMMENT ON TABLE sli_ledger IS 'Every SLI window accepted in the last 30 days of data, an SLO and hour a row. No query reads it.';
COMMENT ON COLUMN sli_ledger.slots IS 'A slot for each minute, 22 bytes, big-endian: width_seconds u16 (0: no window starts here), good i64, total i64, revision i32.';
COMMENT ON COLUMN sli_ledger.good IS 'good, total, slices, bad_slices, ratios: sums over the windows of this hour.';
